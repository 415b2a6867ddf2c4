"""A CT to try the module with: a phantom that this computer draws itself, offered by Slicer's Sample Data module."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import slicer

import AGTraining
from AGTraining.errors import InputError

if TYPE_CHECKING:
    from AGTraining.data.phantom import Phantom

CATEGORY = "Attention Segmentation"
SAMPLE_NAME = "AbdomenCTPhantom"
SAMPLE_SPACING_MM = (1.5, 1.5, 2.5)
SAMPLE_SEED = 0

# Stands for the phantom where Sample Data wants an address; `_addressOfPhantom` puts a file in its place.
_ADDRESS = "attentionsegmentation:phantom"


def samplePhantom(spacingMm: tuple[float, float, float] = SAMPLE_SPACING_MM) -> "Phantom":
    """The sample's CT (LPS, HU) with its true labels; always the same patient. Takes seconds at the default spacing.

    spacingMm: of the voxels along i, j, k.
    """
    from AGTraining.data.phantom import PhantomOptions, make_phantom

    return make_phantom(PhantomOptions(seed=SAMPLE_SEED, spacing=spacingMm))


def phantomFile(folder: Path) -> Path:
    """The sample as an NRRD file below a folder, drawn now unless an earlier call left it there.

    Raises InputError when the file cannot be written.
    """
    path = folder / "AttentionSegmentation" / _fileName()
    if not path.is_file():
        from AGTraining.imaging.files import write_volume

        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"{path.parent}: the sample cannot be kept there ({error.strerror}); choose another cache folder in "
                "Edit / Application Settings / Cache."
            ) from error
        write_volume(samplePhantom().ct, path)
    return path


def registerSampleData() -> None:
    """Offers the phantom in Sample Data; draws and loads nothing. A second call changes nothing."""
    import SampleData

    logic = SampleData.SampleDataLogic
    if any(source.sampleName == SAMPLE_NAME for source in logic.sampleDataSourcesByCategory(CATEGORY)):
        return
    # For SampleData.downloadSample, which does not ask the custom downloader.
    logic.registerUrlRewriteRule(SAMPLE_NAME, _addressOfPhantom)
    icons = Path(__file__).resolve().parents[2] / "Resources" / "Icons"
    logic.registerCustomSampleDataSource(
        category=CATEGORY,
        sampleName=SAMPLE_NAME,
        thumbnailFileName=str(icons / "AttentionSegmentationPhantom.png"),
        uris=_ADDRESS,
        fileNames=_fileName(),
        nodeNames=SAMPLE_NAME,
        loadFileTypes="VolumeFile",
        customDownloader=loadSample,
    )


def loadSample(source: Any) -> list[Any]:
    """What the button in Sample Data does: the phantom's volume node in the scene. Errors are shown, and raised."""
    import SampleData

    with slicer.util.tryWithErrorDisplay("The sample could not be made.", waitCursor=True):
        phantomFile(_cacheFolder())
        return SampleData.SampleDataLogic().downloadFromSource(source)


def _addressOfPhantom(address: str) -> str:
    return phantomFile(_cacheFolder()).as_uri() if address == _ADDRESS else address


def _cacheFolder() -> Path:
    return Path(slicer.mrmlScene.GetCacheManager().GetRemoteCacheDirectory()).absolute()


def _fileName() -> str:
    # Another version may draw another patient.
    return f"{SAMPLE_NAME}-{AGTraining.__version__}.nrrd"
