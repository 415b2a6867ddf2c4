"""Which frames are drawn, and how often."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from AGTraining.data.planes.augment import normalised, unchanged
from AGTraining.data.planes.labelled import LabelledFrame
from AGTraining.data.planes.samples import UNLABELLED, PlaneSamples, class_numbers, drawing_shares
from AGTraining.data.planes.settings import PlaneAugmentationSettings, SamplingSettings
from AGTraining.data.planes.store import stored_size
from AGTraining.errors import ConfigurationError
from AGTraining.imaging.frame_rule import FrameRule
from Testing.AGTraining.data.planes.frames_on_disk import NamedClass, picture

RULE = FrameRule(size=(32, 48))
CLASSES = [NamedClass("Heart"), NamedClass("Background", True), NamedClass("Femur")]
PLAIN = PlaneAugmentationSettings(flip=0, affine=0, gain=0, speckle=0, blur=0, shadow=0)


def samples(
    labels: list[str | None], sampling: SamplingSettings | None = None, seed: int = 0, **more: object
) -> PlaneSamples:
    frames = [LabelledFrame(Path(f"{n}.png"), label, str(n)) for n, label in enumerate(labels)]
    stored = np.stack([picture(n, stored_size(RULE)) for n in range(len(labels))])
    return PlaneSamples(frames, stored, CLASSES, RULE, sampling or SamplingSettings(), PLAIN, seed, **more)  # type: ignore[arg-type]


def drawn(data: PlaneSamples, count: int = 2000) -> Counter[int]:
    return Counter(int(data[n][1]) for n in range(count))


def test_background_has_half_of_the_draws_and_the_planes_share_the_rest() -> None:
    counts = drawn(samples(["Heart"] * 2 + ["Background"] * 30 + ["Femur"] * 8))

    assert counts[1] == pytest.approx(1000, abs=80)
    assert counts[0] == pytest.approx(500, abs=70) and counts[2] == pytest.approx(500, abs=70)


def test_an_item_depends_on_the_seed_and_its_number_alone() -> None:
    labels: list[str | None] = ["Heart", "Background", "Femur", None, None]
    sampling = SamplingSettings(unlabelled_share=0.4)
    first, second = samples(labels, sampling, seed=3), samples(labels, sampling, seed=3)
    for n in (17, 3, 400):
        [second[m] for m in range(5)]
        assert all(torch.equal(a, b) for a, b in zip(first[n], second[n], strict=True))
    other = samples(labels, sampling, seed=4)
    assert [int(first[n][1]) for n in range(30)] != [int(other[n][1]) for n in range(30)]


def test_an_item_is_the_frame_with_its_margin_its_class_and_its_number() -> None:
    image, target, number = samples(["Femur"])[5]

    assert image.dtype == torch.uint8 and image.shape == (1, *stored_size(RULE))
    assert np.array_equal(image[0].numpy(), picture(0, stored_size(RULE)))
    assert (int(target), int(number)) == (2, 5)


def test_frames_of_one_class_are_drawn_by_their_weights() -> None:
    frames = [LabelledFrame(Path(f"{n}.png"), "Heart", str(n), weight=weight) for n, weight in enumerate((1.0, 3.0))]
    stored = np.stack([np.full(stored_size(RULE), n, dtype=np.uint8) for n in range(2)])
    data = PlaneSamples(frames, stored, CLASSES, RULE, SamplingSettings(), PLAIN)

    counts = Counter(int(data[n][0].max()) for n in range(1000))

    assert counts[1] == pytest.approx(750, abs=50)


@pytest.mark.parametrize(
    ("targets", "settings", "shares"),
    [
        # Without background frames the planes have it all.
        ([0, 0, 0, 2], {}, [0.5, 0, 0.5, 0]),
        # Background alone.
        ([1], {}, [0, 1, 0, 0]),
        # As many draws as frames.
        ([0, 0, 0, 2, 1], {"balance": 0}, [0.375, 0.5, 0.125, 0]),
        ([0, 0, 0, 0, 2, 1], {"balance": 0.5, "background_share": 0.1}, [0.6, 0.1, 0.3, 0]),
        # Background as a class like others.
        ([0, 1, 1, 2], {"background_share": None}, [1 / 3, 1 / 3, 1 / 3, 0]),
        ([0, 1, UNLABELLED], {"unlabelled_share": 0.2}, [0.4, 0.4, 0, 0.2]),
        # A share of frames that are not there goes to the others, and the other way round.
        ([0, 1], {"unlabelled_share": 0.2}, [0.5, 0.5, 0, 0]),
        ([UNLABELLED], {}, [0, 0, 0, 1]),
    ],
)
def test_shares_of_the_draws(targets: list[int], settings: dict[str, float], shares: list[float]) -> None:
    found = drawing_shares(np.array(targets), [False, True, False], SamplingSettings.model_validate(settings))

    assert found.tolist() == pytest.approx(shares)


def test_nothing_to_draw_is_said() -> None:
    with pytest.raises(ConfigurationError, match="no frame to draw"):
        drawing_shares(np.array([], dtype=np.int64), [False, True], SamplingSettings())


def test_labels_of_no_class_are_unlabelled() -> None:
    frames = [LabelledFrame(Path("a.png"), label, "1") for label in ("Femur/left", "Lips", None)]

    assert class_numbers(frames, CLASSES).tolist() == [2, UNLABELLED, UNLABELLED]


def test_a_batch_becomes_the_networks_input() -> None:
    data = samples(["Heart", "Femur"])
    batch = [torch.stack(parts) for parts in zip(*(data[n] for n in range(4)), strict=True)]

    inputs = data.finish(*batch)

    assert inputs.shape == (4, 1, 32, 48)
    assert torch.allclose(inputs, normalised(unchanged(batch[0], RULE.size)), atol=1e-3)
    pictures = data.pictures(*batch)
    assert float(pictures.min()) >= 0 and float(pictures.max()) <= 1


def test_only_unlabelled_frames_are_mixed_and_that_by_their_number() -> None:
    strong = PLAIN.model_copy(update={"mixup": 0.5, "cutmix": 0.5})
    labels: list[str | None] = ["Heart", *([None] * 12)]
    data = samples(labels, SamplingSettings(unlabelled_share=0.5), strong=strong)
    originals = [picture(n, stored_size(RULE)) for n in range(13)]
    kinds = Counter[str]()
    for n in range(60):
        image, target, _ = data[n]
        assert torch.equal(image, data[n][0])
        same = any(np.array_equal(image[0].numpy(), other) for other in originals)
        if int(target) != UNLABELLED:
            assert same
            continue
        # Where a rectangle was pasted, the rest is as it was.
        kept = max(float((image[0].numpy() == other).mean()) for other in originals)
        kinds["cutmix" if 0.3 < kept < 1 else "same" if kept == 1 else "mixup"] += 1

    # Now and then a frame meets itself.
    assert kinds["cutmix"] > 5 and kinds["mixup"] > 5 and kinds["same"] < 5


def test_strong_changes_are_for_unlabelled_frames() -> None:
    strong = PLAIN.model_copy(update={"flip": 1.0})
    data = samples(["Heart", None], SamplingSettings(unlabelled_share=0.5), strong=strong)
    batch = [torch.stack(parts) for parts in zip(*(data[n] for n in range(12)), strict=True)]

    pictures, plain = data.pictures(*batch), unchanged(batch[0], RULE.size)

    for number, target in enumerate(batch[1].tolist()):
        wanted = plain[number].flip(-1) if target == UNLABELLED else plain[number]
        assert torch.allclose(pictures[number], wanted, atol=1e-3)
    assert set(batch[1].tolist()) == {0, UNLABELLED}
