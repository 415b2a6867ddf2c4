"""`python -m AGTraining VERB`."""

import sys

from AGTraining.cli import main

if __name__ == "__main__":
    sys.exit(main())
