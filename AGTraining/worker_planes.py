"""What the worker can be asked about ultrasound: the planes in a clip, and in one live frame after another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from AGTraining.errors import AGTrainingError, Cancelled, RequestError
from AGTraining.worker_tasks import (
    COMPUTING,
    HANDING_OVER,
    LOADING,
    CancelCallback,
    ModelKeeper,
    ProgressCallback,
    Task,
    path_of,
)

if TYPE_CHECKING:
    from AGTraining.inference.plane_result import PlaneOptions
    from AGTraining.inference.planes import PlaneDetector


def planes(
    request: Mapping[str, Any], models: ModelKeeper, progress: ProgressCallback, is_cancelled: CancelCallback
) -> dict[str, Any]:
    """Detects planes in each frame of a clip; the result's files are written into the request's folder.

    Raises RequestError for what is not a request of this protocol, and all that `open_frames` and `analyse_clip` do.
    """
    from AGTraining.exchange_planes import load_plane_options, save_clip_result
    from AGTraining.imaging.frames import open_frames
    from AGTraining.inference.planes import analyse_clip

    def check() -> None:
        if is_cancelled():
            raise Cancelled

    def computing(fraction: float, stage: str) -> None:
        progress(COMPUTING + (HANDING_OVER - COMPUTING) * fraction, stage)

    folder, file = path_of(request, "folder"), path_of(request, "file")
    if folder is None or file is None:
        raise RequestError("The request names no clip, or no folder for its files; update the extension.")
    options = load_plane_options(request.get("options", {}))
    with open_frames(file) as sequence:
        detector = _detector(models, path_of(request, "model"), options, progress)
        check()
        with _memory_told():
            result = analyse_clip(sequence, detector, computing, is_cancelled)
    progress(HANDING_OVER, "Handing over the result")
    return save_clip_result(result, folder, check)


def frame(
    request: Mapping[str, Any], models: ModelKeeper, progress: ProgressCallback, is_cancelled: CancelCallback
) -> dict[str, Any]:
    """Detects the plane in one frame: its `exchange_planes.save_plane_result`, with the model's `classes` and
    `background` (a name, or None), and `messages` on how it was computed.

    Raises RequestError for what is not a request of this protocol, and all that `PlaneDetector.detect` does.
    """
    from AGTraining.exchange_planes import load_frame, load_plane_options, save_plane_result

    image = load_frame(request.get("frame"))  # type: ignore[arg-type]
    options = load_plane_options(request.get("options", {}))
    detector = _detector(models, path_of(request, "model"), options, progress)
    with _memory_told():
        result = detector.detect(image)
    if is_cancelled():
        raise Cancelled
    return {
        **save_plane_result(result),
        "classes": list(detector.classes),
        "background": detector.background,
        "messages": list(detector.messages),
    }


def _detector(
    models: ModelKeeper, path: Path | None, options: PlaneOptions, progress: ProgressCallback
) -> PlaneDetector:
    """The detector of a model, None for the bundled one; made once while the options stay the same."""
    from AGTraining import bundle
    from AGTraining.inference.planes import PlaneDetector

    file = bundle.default_path("planes") if path is None else path

    def load() -> PlaneDetector:
        progress(LOADING, "Loading the model")
        return PlaneDetector(bundle.load_planes(file), options)

    return models.keep("planes", file, options, load)


@contextmanager
def _memory_told() -> Iterator[None]:
    """PyTorch's own words for a lack of memory become a MemoryError."""
    from AGTraining.inference.predict import is_out_of_memory

    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, AGTrainingError) and is_out_of_memory(error):
            raise MemoryError(str(error)) from error
        raise


PLANE_TASKS: Mapping[str, Task] = {"planes": planes, "frame": frame}
