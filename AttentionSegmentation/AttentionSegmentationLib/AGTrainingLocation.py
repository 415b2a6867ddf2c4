"""Where the Python package AGTraining lies, seen from the Slicer modules."""

import importlib.util
import sys
from pathlib import Path


def makeAGTrainingImportable() -> None:
    """Puts the folder that holds AGTraining at the end of `sys.path`, unless AGTraining can be imported already.

    An installed extension has AGTraining beside this library (`qt-scripted-modules/AGTraining`), a source checkout
    one folder higher. A package that was installed with pip, or named in PYTHONPATH, goes before both.

    Raises ImportError with a sentence for the user when it is nowhere.
    """
    if importlib.util.find_spec("AGTraining") is not None:
        return
    moduleFolder = Path(__file__).resolve().parents[1]
    for folder in (moduleFolder, moduleFolder.parent):
        if (folder / "AGTraining" / "__init__.py").is_file():
            sys.path.append(str(folder))
            return
    raise ImportError(
        f"The Python package AGTraining is neither in {moduleFolder} nor in {moduleFolder.parent}; "
        "install the extension AttentionSegmentation again.",
        name="AGTraining",
    )
