"""Segmenting a scan from files into files, with the results written by MRML."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import slicer

from ..NodeFiles import saveNode
from ..SceneChanges import SceneChanges
from ..VolumeConversion import addVolumeNode
from .ProcessingOptions import ProcessingOptions
from .SegmentationEngine import InProcessEngine
from .SegmentationLogic import SegmentationLogic

if TYPE_CHECKING:
    from AGTraining.batch import Case


@dataclass(frozen=True)
class BatchOutcome:
    """What became of a scan.

    files: what was written, the segmentation first. volumesMl: of each organ found, in ml. messages: for the user.
    """

    files: tuple[Path, ...]
    volumesMl: dict[str, float]
    messages: tuple[str, ...]


class BatchSegmentation:
    """Segments scans and writes the results of each into a folder of its own, as `python -m AGTraining segment` does.

    For a scan named `case`, in the folder `case`: `case.seg.nrrd` (written by MRML, with terminology),
    `case_volumes.csv` (volume and intensity of each organ) and, when attention maps are asked for,
    `case_attention_level2.nrrd` and so on.
    """

    def __init__(
        self,
        outputFolder: str | Path,
        options: ProcessingOptions,
        overwrite: bool = False,
        engine: InProcessEngine | None = None,
    ) -> None:
        self.outputFolder = Path(outputFolder).expanduser()
        self.options = options
        self.overwrite = overwrite
        # A process of its own for the computation would only read and write each scan once more.
        self.logic = SegmentationLogic(engine=engine or InProcessEngine())

    def run(self, case: "Case", progress: Callable[[float, str], None] | None = None) -> BatchOutcome:
        """Segments one scan. Its files appear when all of them are written; the scene is left as it was.

        A sheared scan is resampled upright first, and the resampled scan is written beside its results.
        progress: called with a fraction in [0, 1] and the name of the stage.

        Raises an AGTrainingError with a sentence for the user, among others when there are results of that name already
        and `overwrite` is off.
        """
        from AGTraining.batch import read_case, require_place
        from AGTraining.imaging.files import write_volume
        from AGTraining.inference.case_folder import case_folder
        from AGTraining.inference.outputs import write_table

        final = self.outputFolder / case.name
        require_place(case, self.outputFolder, self.overwrite)
        if progress is not None:
            progress(0.0, "Reading")
        volume, messages, sheared = read_case(case)
        changes = SceneChanges(slicer.mrmlScene)
        try:
            volumeNode = addVolumeNode(slicer.mrmlScene, volume, case.name)
            if not sheared:
                del volume
            result = self.logic.process(volumeNode, self.options, progress=progress)
            with case_folder(self.outputFolder, case.name, self.overwrite) as folder:
                files = [folder / f"{case.name}.seg.nrrd", folder / f"{case.name}_volumes.csv"]
                saveNode(result.segmentationNode, files[0])
                write_table(result.segmentResult, files[1])
                for mapName, node in result.attentionNodes.items():
                    files.append(folder / f"{case.name}_attention_{mapName.replace('.', '_')}.nrrd")
                    saveNode(node, files[-1])
                if sheared:
                    files.append(folder / f"{case.name}_ct.nii.gz")
                    write_volume(volume, files[-1])
        finally:
            changes.undo()
        organs = result.segmentResult.organs
        return BatchOutcome(
            tuple(final / file.name for file in files),
            {organ.label.name: organ.volume_ml for organ in organs if organ.found},
            tuple(dict.fromkeys((*messages, *result.messages))),
        )
