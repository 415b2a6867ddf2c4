"""From a CT to organs: the whole inference path for one volume."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from AGTraining.bundle import Bundle
from AGTraining.errors import Cancelled, InputError
from AGTraining.imaging.checks import check_volume
from AGTraining.imaging.intensity import AIR_HU
from AGTraining.imaging.resample import Grid, canonical_grid, resample
from AGTraining.imaging.volume import Volume
from AGTraining.inference.components import Box, body_box, keep_largest_components, label_boxes
from AGTraining.inference.predict import Prediction, predict
from AGTraining.inference.restore import mean_confidence, restore, split_pairs, winning_label
from AGTraining.inference.result import OrganStatistics, SegmentOptions, SegmentResult
from AGTraining.labels import OutputLabel

MINIMUM_ORGAN_ML = 1.0
LOW_CONFIDENCE = 0.75
LARGEST_MODEL_GRID = 500_000_000

ProgressCallback = Callable[[float, str], None]
CancelCallback = Callable[[], bool]


class _Reporter:
    """Hands progress to the caller, stops on request, and keeps the time of each stage."""

    def __init__(self, progress: ProgressCallback | None, is_cancelled: CancelCallback | None) -> None:
        self._progress = progress
        self._is_cancelled = is_cancelled
        self._range = (0.0, 1.0)
        self._name = ""
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str, start: float, stop: float) -> Iterator[None]:
        self._range, self._name = (start, stop), name
        begin = time.perf_counter()
        self.step(0.0)
        yield
        self.step(1.0)
        self.seconds[name] = time.perf_counter() - begin

    def step(self, fraction: float, detail: str = "") -> None:
        """Raises Cancelled when the caller wants to stop."""
        self.check()
        if self._progress is not None:
            start, stop = self._range
            self._progress(start + (stop - start) * fraction, f"{self._name}{detail}")

    def check(self) -> None:
        if self._is_cancelled is not None and self._is_cancelled():
            raise Cancelled


def segment(
    volume: Volume,
    bundle: Bundle,
    options: SegmentOptions | None = None,
    *,
    progress: ProgressCallback | None = None,
    is_cancelled: CancelCallback | None = None,
) -> SegmentResult:
    """Segments a CT (HU) of any geometry.

    progress: called with a fraction in [0, 1] and the name of the stage. is_cancelled: asked between and within tiles.
    Raises InputError for what cannot be segmented, DeviceError for a missing device or too little memory, Cancelled.
    """
    options = options or SegmentOptions()
    kept = _kept_labels(bundle, options.organs)
    report = _Reporter(progress, is_cancelled)
    with report.stage("Resampling to the model's grid", 0.0, 0.08):
        messages = list(check_volume(volume))
        volume = _finite(volume)
        grid, hounsfield = _model_image(volume, bundle)
    with report.stage("Segmenting", 0.08, 0.8):
        prediction = predict(
            bundle.info.intensity.apply(hounsfield.copy()),
            bundle,
            device=options.device,
            attention=options.attention,
            tile_size=options.tile_size,
            mirror=options.mirror,
            step=report.step,
            check=report.check,
        )
        messages += prediction.messages
    with report.stage("Restoring the scan's resolution", 0.8, 0.94):
        channels, sides_certain = split_pairs(prediction, bundle, hounsfield, grid)
        winner = winning_label(channels)
        confidence = mean_confidence(channels, winner)
        labels = restore(channels, winner, grid, volume, report.step)
        del channels, winner
    with report.stage("Measuring the organs", 0.94, 1.0):
        boxes = label_boxes(labels)
        if options.largest_component:
            boxes = keep_largest_components(labels, boxes, MINIMUM_ORGAN_ML / volume.voxel_volume_ml)
        for label in bundle.info.output_labels:
            if label not in kept and label.value in boxes:
                region = labels[boxes.pop(label.value)]
                region[region == label.value] = 0
        organs = tuple(
            _statistics(volume, labels, boxes.get(label.value), label, confidence[label.value - 1]) for label in kept
        )
        messages += _organ_messages(volume, organs, boxes)
        if not sides_certain and any(organ.found and organ.label.modifier_code for organ in organs):
            messages.append(
                f"{volume.name}: no spine was seen, so left and right were told by the middle of the body; check them."
            )
        attention = _attention_volumes(prediction, grid)
    return SegmentResult(
        Volume(labels, volume.ijk_to_world, volume.name),
        organs,
        attention,
        tuple(messages),
        prediction.device,
        report.seconds,
    )


def _kept_labels(bundle: Bundle, organs: tuple[str, ...] | None) -> tuple[OutputLabel, ...]:
    labels = bundle.info.output_labels
    if bundle.info.task != "segmentation":
        raise InputError(f"{bundle.path.name}: this model finds {bundle.info.task}; choose one that segments.")
    if organs is None:
        return labels
    if not organs:
        raise InputError("No organ was chosen; choose at least one.")
    unknown = [name for name in organs if name not in {label.name for label in labels}]
    if unknown:
        known = ", ".join(label.name for label in labels)
        raise InputError(f"The model {bundle.info.name} has no organ '{unknown[0]}'; it has {known}.")
    return tuple(label for label in labels if label.name in organs)


def _finite(volume: Volume) -> Volume:
    """The volume with NaN and infinities replaced by air (the caller's array is left alone)."""
    if volume.array.dtype.kind != "f" or bool(np.isfinite(volume.array.sum(dtype=np.float64))):
        return volume
    return volume.with_array(np.nan_to_num(volume.array, nan=AIR_HU, posinf=AIR_HU, neginf=AIR_HU))


def _model_image(volume: Volume, bundle: Bundle) -> tuple[Grid, np.ndarray]:
    """The part of the canonical grid that holds the body, and the HU on it, (K, J, I) float32."""
    grid = canonical_grid(volume, bundle.info.spacing_mm)
    if np.prod([float(n) for n in grid.shape]) > LARGEST_MODEL_GRID:
        extent = " × ".join(f"{e:.0f}" for e in volume.extent_mm)
        raise InputError(
            f"{volume.name}: measures {extent} mm, which is no patient; correct the spacing in its header."
        )
    hounsfield = resample(volume, grid, AIR_HU)
    box = body_box(hounsfield, grid.spacing)
    matrix = grid.ijk_to_world.copy()
    matrix[:3, 3] += matrix[:3, :3] @ [s.start for s in reversed(box)]
    hounsfield = np.ascontiguousarray(hounsfield[box])
    k, j, i = hounsfield.shape
    return Grid((k, j, i), matrix), hounsfield


def _statistics(
    volume: Volume, labels: np.ndarray, box: Box | None, label: OutputLabel, confidence: float
) -> OrganStatistics:
    """The organ in numbers; box: where its label is, None where it is nowhere."""
    if box is None:
        return OrganStatistics(label, 0, 0.0, float("nan"), float("nan"), float("nan"))
    values = volume.array[box][labels[box] == label.value].astype(np.float64)
    ml = values.size * volume.voxel_volume_ml
    return OrganStatistics(label, values.size, ml, float(values.mean()), float(values.std()), confidence)


def _organ_messages(volume: Volume, organs: tuple[OrganStatistics, ...], boxes: dict[int, Box]) -> list[str]:
    messages = []
    missing = [organ.label.name for organ in organs if not organ.found]
    if missing:
        messages.append(f"{volume.name}: not found: {', '.join(missing)}.")
    unsure = [f"{o.label.name} ({o.confidence:.0%})" for o in organs if o.found and o.confidence < LOW_CONFIDENCE]
    if unsure:
        messages.append(f"{volume.name}: found with low confidence, check it: {', '.join(unsure)}.")
    odd = [
        f"{o.label.name} ({o.volume_ml:.0f} ml)"
        for o in organs
        if o.found and o.label.usual_ml and not o.label.usual_ml[0] <= o.volume_ml <= o.label.usual_ml[1]
    ]
    if odd:
        messages.append(f"{volume.name}: unusual volume, check it: {', '.join(odd)}.")
    cut = [
        organ.label.name
        for organ in organs
        if organ.found
        and any(s.start == 0 or s.stop == n for s, n in zip(boxes[organ.label.value], volume.array.shape, strict=True))
    ]
    if cut:
        messages.append(
            f"{volume.name}: may be cut off at the edge of the scan, its volume then too small: {', '.join(cut)}."
        )
    return messages


def _attention_volumes(prediction: Prediction, grid: Grid) -> dict[str, Volume]:
    """Coefficients with their geometry: voxel n of a level covers `factor` model voxels along each axis."""
    volumes = {}
    for name, (array, factor) in prediction.attention.items():
        level = np.diag([factor, factor, factor, 1.0])
        level[:3, 3] = (factor - 1) / 2
        volumes[name] = Volume(array, grid.ijk_to_world @ level, name)
    return volumes
