"""Real MRML below the stand-in."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2] / "AttentionSegmentation"))

from AttentionSegmentationLib.SlicerHost import startSlicerHost

from Testing.slicer_standin.fixtures import (  # noqa: F401
    closeSlicer,
    dialogs,
    loadModule,
    mainWindow,
    processEvents,
    screenshot,
    slicerApplication,
    slotErrors,
)

startSlicerHost()
