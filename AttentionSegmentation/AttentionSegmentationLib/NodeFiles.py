"""Writing nodes to files through MRML's own storage nodes, without Slicer's file dialogs and readers."""

from pathlib import Path
from typing import Any

import slicer

from AGTraining.errors import AGTrainingError


def saveNode(node: Any, path: Path) -> None:
    """Writes a storable node to a file; the suffix decides on the format. The node keeps no trace of the file.

    Raises AGTrainingError when the file was not written.
    """
    # Not node.CreateDefaultStorageNode(): what that returns is never freed in Python.
    storageNode = getattr(slicer, node.GetDefaultStorageNodeClassName())()
    # Storage nodes look up their scene for the version and the folder of the file; it need not hold them.
    storageNode.SetScene(node.GetScene())
    storageNode.SetFileName(str(path))
    if not storageNode.WriteData(node) or not path.is_file():
        reason = " ".join(storageNode.GetUserMessages().GetAllMessagesAsString().split())
        raise AGTrainingError(
            f"{path}: MRML could not write the file ({reason or 'no reason given'}); "
            "check the folder's permissions and the free space of the disk."
        )
