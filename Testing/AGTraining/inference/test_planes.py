"""Planes of frames and clips, with a model whose answers are known."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from AGTraining.errors import BundleError, Cancelled, DeviceError, InputError
from AGTraining.imaging.box import Box
from AGTraining.imaging.frame_sequence import Frame, FrameError, FrameSequence
from AGTraining.inference.localise import LocaliseOptions
from AGTraining.inference.plane_result import PlaneOptions
from AGTraining.inference.planes import PlaneDetector, analyse_clip
from Testing.AGTraining.inference.synthetic_planes import COLUMNS, LARGE, MIDDLE, ROWS, SMALL, blob_bundle, frame

CPU = PlaneOptions(device="cpu", localise=LocaliseOptions(sigma=0.0))


@pytest.fixture(scope="module")
def detector() -> PlaneDetector:
    return PlaneDetector(blob_bundle(), CPU)


class Clip(FrameSequence):
    """Frames at hand, read again as often as wanted."""

    def __init__(self, images: list[np.ndarray], count: int | None = None, broken_at: int | None = None) -> None:
        super().__init__(Path("clip.mha"), len(images) if count is None else count, (0.5, 0.5))
        self.images = images
        self.broken_at = broken_at
        self.reads = 0

    def _read_from(self, start: int) -> Iterator[Frame]:
        for index in range(start, len(self.images)):
            if index == self.broken_at:
                raise self._broken(index, "cut off")
            self.reads += 1
            yield Frame(index, self.images[index], index / 10)


@pytest.mark.parametrize(
    ("rectangle", "plane"),
    [(SMALL, "Small"), (LARGE, "Large"), (MIDDLE, "Background")],
    ids=["small", "large", "middle"],
)
def test_plane_is_the_most_probable_class(detector: PlaneDetector, rectangle: tuple, plane: str) -> None:
    result = detector.detect(frame(rectangle))
    assert result.plane == plane
    assert result.confidence == pytest.approx(result.probabilities.max())
    assert result.probabilities.sum() == pytest.approx(1, abs=1e-5)
    assert not result.is_blank and not result.message


def test_confidence_is_the_softmax_probability(detector: PlaneDetector) -> None:
    model = blob_bundle()
    values, _ = model.info.frame.apply(frame(MIDDLE))
    with torch.no_grad():
        expected = torch.softmax(model.network(torch.from_numpy(values)[None, None]), dim=1)[0].numpy()
    assert detector.detect(frame(MIDDLE)).probabilities == pytest.approx(expected, abs=1e-5)


def test_box_is_where_the_frame_is_bright_in_its_own_pixels(detector: PlaneDetector) -> None:
    box = detector.detect(frame((48, 32, 96, 64))).box
    assert box is not None
    # Half a pixel of the finest attention map (8 frame pixels) for the resampling of edges.
    assert box.edges == pytest.approx((48, 32, 96, 64), abs=4)


def test_box_counts_from_the_corner_of_the_frame_not_of_the_crop() -> None:
    wide = np.pad(frame((48, 32, 96, 64)), ((0, 0), (96, 64)))
    result = PlaneDetector(blob_bundle(), CPU).detect(wide)
    # The centre 160 of 320 columns: it begins at 80.
    assert result.crop == Box(80.0, 0.0, 240.0, 128.0)
    assert result.box is not None
    assert result.box.edges == pytest.approx((144, 32, 192, 64), abs=4)


def test_box_ends_where_the_frame_ends() -> None:
    """The sector's proportions are filled up with black beyond the frame."""
    image = frame((0, 0, 64, 160), size=(160, 64))
    image[60:100] //= 2
    result = PlaneDetector(blob_bundle(crop="sector"), CPU).detect(image)
    assert result.crop.x0 < 0 and result.crop.x1 > 64
    assert result.box is not None
    assert result.box.x0 >= 0 and result.box.x1 <= 64


def test_larger_frames_of_another_type_give_the_same(detector: PlaneDetector) -> None:
    small = detector.detect(frame(SMALL))
    large = detector.detect(np.kron(frame(SMALL).astype(np.uint16) * 100, np.ones((3, 3), np.uint16)))
    assert large.plane == small.plane
    assert large.confidence == pytest.approx(small.confidence, abs=1e-3)
    assert large.box is not None and small.box is not None
    assert large.box.edges == pytest.approx(small.box.scaled(3).edges, abs=1)


def test_colors_count_as_their_mean(detector: PlaneDetector) -> None:
    gray = detector.detect(frame(SMALL))
    red_and_blue = np.stack([frame(SMALL), np.zeros((ROWS, COLUMNS), np.uint8), frame(SMALL)], axis=2)
    colored = detector.detect(red_and_blue)
    assert (colored.plane, colored.box) == (gray.plane, gray.box)
    assert colored.confidence == pytest.approx(gray.confidence, abs=1e-3)


def test_batch_of_unlike_frames_is_that_of_single_ones(detector: PlaneDetector) -> None:
    images = [frame(SMALL), frame(LARGE, size=(256, 320)), frame(MIDDLE).astype(np.float32)]
    batch = detector.detect_batch(images)
    for result, image in zip(batch, images, strict=True):
        alone = detector.detect(image)
        assert (result.plane, result.box, result.crop) == (alone.plane, alone.box, alone.crop)
        assert result.probabilities == pytest.approx(alone.probabilities, abs=1e-5)


def test_no_frames_give_no_results(detector: PlaneDetector) -> None:
    assert detector.detect_batch([]) == []


def test_attention_maps_come_when_asked_for(detector: PlaneDetector) -> None:
    assert detector.detect(frame(SMALL)).attention is None
    maps = PlaneDetector(blob_bundle(), PlaneOptions("cpu", attention=True)).detect(frame(SMALL)).attention
    assert maps is not None
    assert {name: values.shape for name, values in maps.items()} == {"block3": (16, 20), "block4": (8, 10)}
    assert np.unravel_index(maps["block3"].argmax(), (16, 20)) == (4, 4)


def test_model_without_attention_gives_no_box() -> None:
    result = PlaneDetector(blob_bundle(with_attention=False), PlaneOptions("cpu", attention=True)).detect(frame(SMALL))
    assert result.box is None
    assert result.attention == {}
    assert result.probabilities == pytest.approx([1 / 3] * 3)


@pytest.mark.parametrize("level", [0, 77])
def test_constant_frame_is_blank_background_with_a_sentence(detector: PlaneDetector, level: int) -> None:
    result = detector.detect(np.full((128, 160), level, np.uint8))
    assert (result.plane, result.is_blank, result.box) == ("Background", True, None)
    assert result.confidence == pytest.approx(1 / 3)
    assert "one gray value only" in result.message


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_black_with_a_sentence(detector: PlaneDetector, value: float) -> None:
    image = frame(SMALL).astype(np.float32)
    image[100:110, 100:110] = value
    result = detector.detect(image)
    clean = detector.detect(frame(SMALL))
    assert (result.plane, result.box) == (clean.plane, clean.box)
    assert "not finite numbers" in result.message


def test_frame_of_nothing_but_nan_is_blank(detector: PlaneDetector) -> None:
    assert detector.detect(np.full((128, 160), np.nan, np.float32)).is_blank


@pytest.mark.parametrize(
    "image",
    [np.zeros((5, 4, 2), np.uint8), np.zeros((0, 4), np.uint8), np.zeros(7), np.zeros((4, 4), complex), np.array("x")],
)
def test_array_that_is_no_gray_picture_is_refused(detector: PlaneDetector, image: np.ndarray) -> None:
    with pytest.raises(InputError, match="a gray picture"):
        detector.detect(image)


def test_device_that_is_not_there_is_told() -> None:
    with pytest.raises(DeviceError, match="cuda:99"):
        PlaneDetector(blob_bundle(), PlaneOptions("cuda:99"))


def test_model_that_computes_no_numbers_is_told() -> None:
    model = blob_bundle()
    model.network.classifier.bias.data[0] = float("nan")  # type: ignore[union-attr]
    with pytest.raises(BundleError, match=r"blobs.safetensors: the model gives no probabilities"):
        PlaneDetector(model, CPU).detect(frame(SMALL))


def test_short_memory_means_smaller_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    scarce = PlaneDetector(blob_bundle(), CPU)
    network, sizes = scarce._network, []

    def forward(inputs: torch.Tensor, attention: bool) -> object:
        sizes.append(len(inputs))
        if len(inputs) > 2:
            raise torch.OutOfMemoryError("out of memory")
        return network(inputs, attention=attention)

    monkeypatch.setattr(scarce, "_network", forward)
    results = scarce.detect_batch([frame(SMALL), frame(LARGE), frame(MIDDLE), frame(SMALL), frame(LARGE)])
    assert [result.plane for result in results] == ["Small", "Large", "Background", "Small", "Large"]
    assert sizes == [5, 2, 3, 1, 2]


def test_clip_has_a_result_for_each_frame_in_order(detector: PlaneDetector) -> None:
    images = [frame(r) for r in (MIDDLE, SMALL, SMALL, LARGE, MIDDLE) * 9]
    result = analyse_clip(Clip(images), detector)
    assert [f.index for f in result.frames] == list(range(45))
    assert [f.result.plane for f in result.frames] == ["Background", "Small", "Small", "Large", "Background"] * 9
    assert result.frames[20].seconds == 2.0
    assert (result.classes, result.background) == (("Small", "Large", "Background"), "Background")
    assert (result.name, result.count, result.spacing_mm) == ("clip.mha", 45, (0.5, 0.5))
    assert result.is_complete and result.messages == ()
    assert "CPU" in result.device


def test_best_frame_of_a_plane_is_the_most_confident_that_shows_it(detector: PlaneDetector) -> None:
    larger, smaller = (32, 32, 52, 52), (32, 32, 48, 48)
    images = [frame(r) for r in (MIDDLE, larger, smaller, larger)]
    images.append(np.zeros((128, 160), np.uint8))
    best = analyse_clip(Clip(images), detector).best_frames()
    assert {plane: f.index for plane, f in best.items()} == {"Small": 2}


def test_progress_counts_frames_and_ends_at_one(detector: PlaneDetector) -> None:
    told: list[tuple[float, str]] = []
    analyse_clip(Clip([frame(SMALL)] * 40), detector, lambda *progress: told.append(progress))
    assert told == [
        (0.4, "Detecting planes (16 of 40 frames)"),
        (0.8, "Detecting planes (32 of 40 frames)"),
        (1.0, "Detecting planes (40 of 40 frames)"),
    ]


def test_frames_are_read_batch_by_batch(detector: PlaneDetector) -> None:
    clip = Clip([frame(SMALL)] * 40)
    reads: list[int] = []
    analyse_clip(clip, detector, lambda *_: reads.append(clip.reads))
    assert reads == [16, 32, 40]


def test_cancellation_is_asked_before_each_frame(detector: PlaneDetector) -> None:
    clip = Clip([frame(SMALL)] * 40)
    with pytest.raises(Cancelled):
        analyse_clip(clip, detector, is_cancelled=lambda: clip.reads == 20)
    assert clip.reads == 20


def test_clip_that_breaks_off_keeps_what_was_before_it(detector: PlaneDetector) -> None:
    result = analyse_clip(Clip([frame(SMALL)] * 40, broken_at=21), detector)
    assert len(result.frames) == 21
    assert not result.is_complete
    assert "cut off after 21 of 40 frames" in result.messages[0]


def test_clip_without_any_readable_frame_is_an_error(detector: PlaneDetector) -> None:
    with pytest.raises(FrameError, match="before its first frame"):
        analyse_clip(Clip([frame(SMALL)] * 4, broken_at=0), detector)


def test_messages_on_frames_are_summed_up(detector: PlaneDetector) -> None:
    blank = np.zeros((128, 160), np.uint8)
    result = analyse_clip(Clip([frame(SMALL), blank, frame(SMALL), blank]), detector)
    assert [m.partition(": The frame has")[0] for m in result.messages] == ["2 of 4 frames, the first of them frame 2"]
    assert result.is_complete


def test_maps_are_not_kept_for_a_clip() -> None:
    detector = PlaneDetector(blob_bundle(), PlaneOptions("cpu", attention=True))
    result = analyse_clip(Clip([frame(SMALL)] * 3), detector)
    assert [f.result.attention for f in result.frames] == [None] * 3


@pytest.mark.parametrize("shape", [(1, 1 << 20), (1 << 20, 1)])
def test_frame_that_is_far_too_long_is_refused(detector: PlaneDetector, shape: tuple[int, int]) -> None:
    with pytest.raises(InputError, match="larger than any ultrasound frame"):
        detector.detect(np.arange(1 << 20, dtype=np.float32).reshape(shape))
