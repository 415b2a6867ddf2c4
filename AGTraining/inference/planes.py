"""From the frames of an ultrasound examination to standard planes: one frame, several at once, or a whole clip."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from AGTraining.bundle import PlanesBundle
from AGTraining.errors import BundleError, Cancelled, InputError
from AGTraining.imaging.box import Box
from AGTraining.inference.device import choose_device, describe
from AGTraining.inference.localise import localise
from AGTraining.inference.optimise_planes import prepare_for_frames
from AGTraining.inference.plane_result import ClipFrame, ClipResult, PlaneOptions, PlaneResult
from AGTraining.inference.predict import is_out_of_memory

if TYPE_CHECKING:
    from AGTraining.imaging.frames import Frame, FrameSequence

READING, DETECTING = "Reading the frames", "Detecting planes"
# Of a frame, in pixels: no probe and no screen has more, and longer ones would take all memory.
LONGEST_SIDE = 1 << 14
NOT_FINITE = "The frame has values that are not finite numbers; they were taken as black."
BLANK = "The frame has one gray value only; nothing can be recognized in it."

ProgressCallback = Callable[[float, str], None]
CancelCallback = Callable[[], bool]


class _Input(NamedTuple):
    """A frame as the network sees it."""

    shape: tuple[int, ...]
    values: np.ndarray
    crop: Box
    message: str


class PlaneDetector:
    """Detects planes in frames with one model, which is made ready once.

    Not for several threads at a time. has_attention: whether the model tells where it looks. messages: sentences for
    the user on how it computes, such as a device that had too little memory.
    """

    def __init__(self, bundle: PlanesBundle, options: PlaneOptions | None = None) -> None:
        """Raises DeviceError for a device that is not there."""
        self.info = bundle.info
        self.path = bundle.path
        self.options = options or PlaneOptions()
        self.classes = bundle.info.names
        self.background = None if bundle.info.background is None else self.classes[bundle.info.background]
        self.has_attention = bool(getattr(bundle.network, "attention_parameters", list)())
        self.messages: list[str] = []
        self._source = bundle.network
        self.device = choose_device(self.options.device)
        self._network = prepare_for_frames(self._source, self.device)

    def detect(self, image: np.ndarray) -> PlaneResult:
        """What a frame shows. image: (rows, columns), more = brighter, or (rows, columns, 3) RGB, uint8.

        A frame in which nothing can be seen (one gray value) has a message, and all classes alike.
        Raises InputError for an array that is no gray picture.
        """
        return self.detect_batch([image])[0]

    def detect_batch(self, images: Sequence[np.ndarray]) -> list[PlaneResult]:
        """What frames show, computed at once; they may differ in size and type. Raises as `detect`."""
        return self._detect(images, self.options.attention)

    def _detect(self, images: Sequence[np.ndarray], keep_attention: bool) -> list[PlaneResult]:
        inputs = [self._input(image) for image in images]
        if not inputs:
            return []
        probabilities, maps = self._forward(torch.from_numpy(np.stack([frame.values for frame in inputs])[:, None]))
        return [
            self._result(frame, probabilities[n], {name: values[n] for name, values in maps.items()}, keep_attention)
            for n, frame in enumerate(inputs)
        ]

    def _input(self, image: np.ndarray) -> _Input:
        image, message = _usable(image)
        values, crop = self.info.frame.apply(image)
        return _Input(image.shape[:2], values, crop, message or self.info.frame.message(image) or "")

    def _result(
        self, frame: _Input, probabilities: np.ndarray, maps: dict[str, np.ndarray], keep_attention: bool
    ) -> PlaneResult:
        if frame.values.min() == frame.values.max():
            return self._blank(frame.crop)
        if not np.isfinite(probabilities).all():
            raise BundleError(f"{self.path}: the model gives no probabilities for a frame; choose another model.")
        best = int(probabilities.argmax())
        box = localise(maps, self.info.frame.size, self.options.localise)
        if box is not None:
            # The network's input may reach beyond the frame.
            box = self.info.frame.to_frame(box, frame.crop).clipped(*frame.shape)
        return PlaneResult(
            self.classes[best],
            float(probabilities[best]),
            probabilities,
            box,
            frame.crop,
            # Copies: the other frames of the batch need not stay with them.
            {name: values.copy() for name, values in maps.items()} if keep_attention else None,
            message=frame.message,
        )

    def _blank(self, crop: Box) -> PlaneResult:
        """All classes alike; the background, where there is one, is the one that is named."""
        even = np.full(len(self.classes), 1.0 / len(self.classes), dtype=np.float32)
        plane = self.classes[0] if self.background is None else self.background
        return PlaneResult(plane, float(even[0]), even, None, crop, is_blank=True, message=BLANK)

    def _forward(self, inputs: Tensor) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Probabilities (N, classes) and attention maps (N, h, w), float32; with less at once where memory is short."""
        try:
            with torch.inference_mode():
                output = self._network(inputs.to(self.device), attention=True)
                probabilities = torch.softmax(output.logits.float(), dim=1).cpu().numpy()
                return probabilities, {name: m[:, 0].float().cpu().numpy() for name, m in output.attention.items()}
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error) or (len(inputs) == 1 and self.device.type == "cpu"):
                raise
        if len(inputs) > 1:
            half = len(inputs) // 2
            (first, first_maps), (second, second_maps) = self._forward(inputs[:half]), self._forward(inputs[half:])
            maps = {name: np.concatenate([values, second_maps[name]]) for name, values in first_maps.items()}
            return np.concatenate([first, second]), maps
        self.messages.append(f"{describe(self.device)} has too little free memory; the CPU was used instead.")
        self.device = torch.device("cpu")
        self._network = prepare_for_frames(self._source, self.device)
        return self._forward(inputs)


def analyse_clip(
    sequence: FrameSequence,
    detector: PlaneDetector,
    progress: ProgressCallback = lambda fraction, stage: None,
    is_cancelled: CancelCallback = lambda: False,
) -> ClipResult:
    """What the frames of a sequence show, read one batch at a time: memory holds the results, not the frames.

    A frame that cannot be read ends the clip: what was analysed before it is returned, with a message. Attention maps
    are not kept; `detector.detect` gives those of a frame that `sequence.read` reads again.
    progress: gets a fraction (0 when the file does not say how many frames it has) and the stage in words.
    Raises InputError when not even one frame can be read, Cancelled when `is_cancelled` says so between two frames.
    """
    frames: list[ClipFrame] = []
    broken: list[str] = []
    sizes: dict[tuple[int, ...], int] = {}
    seconds = {READING: 0.0, DETECTING: 0.0}
    following = iter(sequence)
    while not broken:
        start = time.perf_counter()
        batch: list[Frame] = []
        try:
            while len(batch) < detector.options.batch and (frame := next(following, None)) is not None:
                if is_cancelled():
                    raise Cancelled
                batch.append(frame)
        except InputError as error:
            if not frames and not batch:
                raise
            broken.append(f"{error} The {_frames(len(frames) + len(batch))} before that were analyzed.")
        seconds[READING] += time.perf_counter() - start
        if not batch:
            break
        for frame in batch:
            sizes.setdefault(frame.image.shape, frame.index)
        start = time.perf_counter()
        images = [frame.image if frame.color is None else frame.color for frame in batch]
        results = detector._detect(images, keep_attention=False)
        seconds[DETECTING] += time.perf_counter() - start
        frames += (ClipFrame(f.index, f.seconds, result) for f, result in zip(batch, results, strict=True))
        progress(*_progress(len(frames), sequence.count))
    if not frames:
        raise InputError(f"{sequence.path}: it has no frames; nothing can be analyzed.")
    return ClipResult(
        sequence.name,
        detector.classes,
        detector.background,
        tuple(frames),
        not broken,
        sequence.count,
        sequence.spacing_mm,
        tuple(dict.fromkeys((*sequence.messages, *broken, *_changed(sizes), *_summed_up(frames), *detector.messages))),
        describe(detector.device),
        seconds,
    )


def _usable(image: np.ndarray) -> tuple[np.ndarray, str]:
    """The frame with finite values only, and a message when it had others. Raises InputError."""
    colored = image.ndim == 3 and image.shape[2] == 3 and image.dtype == np.uint8
    if (image.ndim != 2 and not colored) or 0 in image.shape or image.dtype.kind not in "uif":
        raise InputError(
            f"A frame of shape {image.shape} and type {image.dtype}: a gray picture (rows, columns), or one of red, "
            "green and blue with 8 bits each, is needed."
        )
    if max(image.shape[:2]) > LONGEST_SIDE:
        raise InputError(
            f"A frame of {image.shape[1]} × {image.shape[0]} pixels: larger than any ultrasound frame; cut it out of "
            "the picture first."
        )
    if image.dtype.kind != "f" or np.isfinite(image).all():
        return image, ""
    return np.nan_to_num(image, nan=0.0, posinf=0.0, neginf=0.0), NOT_FINITE


def _progress(done: int, count: int | None) -> tuple[float, str]:
    if not count:
        return 0.0, f"{DETECTING} ({_frames(done)})"
    return min(1.0, done / count), f"{DETECTING} ({done} of {_frames(count)})"


def _frames(count: int) -> str:
    return f"{count} frame{'' if count == 1 else 's'}"


def _changed(sizes: Mapping[tuple[int, ...], int]) -> Iterator[str]:
    """A message for a clip whose frames have several sizes. sizes: the first frame of each."""
    if len(sizes) > 1:
        texts = [f"{columns} × {rows} pixels from frame {index + 1} on" for (rows, columns), index in sizes.items()]
        shown = texts[:3] + (["…"] if len(texts) > 3 else [])
        yield f"The frames change their size ({', '.join(shown)}); boxes are in the pixels of each frame."


def _summed_up(frames: Sequence[ClipFrame]) -> Iterator[str]:
    """The messages of the frames, each once, and on which frames."""
    places: dict[str, list[int]] = {}
    for frame in frames:
        if frame.result.message:
            places.setdefault(frame.result.message, []).append(frame.index)
    for message, indices in places.items():
        if len(indices) == len(frames):
            where = "All frames" if len(frames) > 1 else "The only frame"
        elif len(indices) == 1:
            where = f"Frame {indices[0] + 1}"
        else:
            where = f"{len(indices)} of {_frames(len(frames))}, the first of them frame {indices[0] + 1}"
        yield f"{where}: {message}"
