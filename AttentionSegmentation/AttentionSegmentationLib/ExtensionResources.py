"""Where the files lie that come with the extension: models, their catalogue, the list of Python packages."""

from pathlib import Path

import AGTraining
from AGTraining.errors import ConfigurationError


def resourcePath(*parts: str) -> Path:
    """The path of a file or folder below the extension's `Resources`, as in `resourcePath("Models", "catalogue.json")`.

    Looks beside AGTraining first (source checkout: the repository; installed extension: `qt-scripted-modules`), then
    around this library, for an AGTraining that was installed with pip. Raises ConfigurationError when it is nowhere.
    """
    moduleFolder = Path(__file__).resolve().parents[1]
    folders = (Path(AGTraining.__file__).resolve().parents[1], moduleFolder, moduleFolder.parent)
    for folder in folders:
        path = folder.joinpath("Resources", *parts)
        if path.exists():
            return path
    name = "/".join(("Resources", *parts))
    raise ConfigurationError(
        f"The file {name} of the extension AttentionSegmentation was not found in {folders[0]}; "
        "install the extension again."
    )
