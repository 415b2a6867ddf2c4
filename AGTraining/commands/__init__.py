"""The verbs of the command line, one a file.

Each has `add_parser(verbs, common)`, which describes its arguments, and `run(parsed)`, which returns the exit code.
What a verb needs is imported when it runs, so that `--help` is instant.
"""
