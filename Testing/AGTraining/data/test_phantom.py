"""The phantom: one patient a seed, anatomy where it belongs, any grid."""

from __future__ import annotations

from functools import cache
from itertools import permutations, product

import numpy as np
import pytest
from scipy import ndimage

from AGTraining.data.phantom import Phantom, PhantomOptions, make_phantom
from AGTraining.data.phantom_patient import LABELS

COARSE = (5.0, 5.0, 5.0)
SEEDS = (0, 1, 2, 3, 4)
TARGETS = ("pancreas", "spleen", "kidney_right", "kidney_left")


@cache
def phantom(seed: int = 0, **options: object) -> Phantom:
    return make_phantom(PhantomOptions(**{"seed": seed, "spacing": COARSE, **options}))  # type: ignore[arg-type]


def volume_ml(made: Phantom, organ: str) -> float:
    return float((made.labels.array == LABELS[organ]).sum()) * made.labels.voxel_volume_ml


def center_mm(made: Phantom, organ: str) -> np.ndarray:
    """The organ's center in LPS mm."""
    kji = np.argwhere(made.labels.array == LABELS[organ]).mean(axis=0)
    return made.labels.ijk_to_world[:3, :3] @ kji[::-1] + made.labels.ijk_to_world[:3, 3]


def inner_hu(made: Phantom, organ: str) -> float:
    """Median HU, which partial volume at the edges does not move."""
    return float(np.median(made.ct.array[made.labels.array == LABELS[organ]]))


def test_same_seed_gives_the_same_voxels() -> None:
    again = make_phantom(PhantomOptions(seed=3, spacing=COARSE))
    assert np.array_equal(again.ct.array, phantom(3).ct.array)
    assert np.array_equal(again.labels.array, phantom(3).labels.array)


def test_other_seeds_give_other_patients() -> None:
    volumes = np.array([[volume_ml(phantom(seed), organ) for organ in TARGETS] for seed in SEEDS])
    assert np.all(volumes.std(axis=0) / volumes.mean(axis=0) > 0.03)


def test_types_and_common_grid() -> None:
    made = phantom()
    assert made.ct.array.dtype == np.int16
    assert made.labels.array.dtype == np.uint8
    assert made.ct.same_grid(made.labels)


@pytest.mark.parametrize(
    ("organ", "low", "high"),
    [
        ("pancreas", 35, 115),
        ("spleen", 80, 420),
        ("kidney_right", 85, 240),
        ("kidney_left", 85, 240),
        ("liver", 850, 2300),
        ("stomach", 80, 600),
        ("aorta", 40, 170),
        ("colon", 250, 1500),
    ],
)
def test_volumes_are_human(organ: str, low: float, high: float) -> None:
    volumes = [volume_ml(phantom(seed), organ) for seed in SEEDS]
    assert low < min(volumes)
    assert max(volumes) < high


@pytest.mark.parametrize("seed", SEEDS)
def test_every_target_hangs_together(seed: int) -> None:
    labels = phantom(seed).labels.array
    for organ in TARGETS:
        components, _ = ndimage.label(labels == LABELS[organ], np.ones((3, 3, 3)))
        sizes = np.bincount(components.ravel())[1:]
        assert sizes.max() / sizes.sum() > 0.93, organ


@pytest.mark.parametrize("seed", SEEDS)
def test_organs_lie_on_their_side(seed: int) -> None:
    made = phantom(seed)
    x = {organ: center_mm(made, organ)[0] for organ in (*TARGETS, "liver", "aorta", "inferior_vena_cava")}
    assert x["kidney_left"] - x["kidney_right"] > 100
    assert x["spleen"] > x["aorta"] + 50
    assert x["liver"] < x["inferior_vena_cava"]
    assert x["inferior_vena_cava"] < x["aorta"]


@pytest.mark.parametrize("seed", SEEDS)
def test_pancreas_lies_in_front_of_the_vessels_and_reaches_the_spleen(seed: int) -> None:
    made = phantom(seed)
    assert center_mm(made, "pancreas")[1] < center_mm(made, "aorta")[1] - 10
    distance = ndimage.distance_transform_edt(made.labels.array != LABELS["spleen"], made.labels.spacing[::-1])
    assert distance[made.labels.array == LABELS["pancreas"]].min() < 30
    distance = ndimage.distance_transform_edt(made.labels.array != LABELS["duodenum"], made.labels.spacing[::-1])
    assert distance[made.labels.array == LABELS["pancreas"]].min() < 12


def test_contrast_follows_the_phase() -> None:
    none, arterial, portal = (phantom(1, phase=phase) for phase in ("none", "arterial", "portal venous"))
    assert inner_hu(arterial, "aorta") > inner_hu(portal, "aorta") + 60 > inner_hu(none, "aorta") + 120
    assert inner_hu(portal, "liver") > inner_hu(arterial, "liver") + 15
    assert inner_hu(portal, "kidney_left") > inner_hu(none, "kidney_left") + 80
    assert 10 < inner_hu(none, "pancreas") < 60


def test_phase_leaves_the_anatomy_alone() -> None:
    assert np.array_equal(phantom(1, phase="none").labels.array, phantom(1, phase="arterial").labels.array)


@pytest.mark.parametrize("seed", SEEDS)
def test_fat_air_and_bone_have_their_hu(seed: int) -> None:
    made = phantom(seed, noise_hu=0.0)
    hu = made.ct.array
    fat = hu[(hu > -150) & (hu < -50)]
    assert -120 < np.median(fat) < -80
    assert hu[0, 0, 0] < -950
    assert (hu > 250).sum() * made.ct.voxel_volume_ml > 50
    bowel = np.isin(made.labels.array, [LABELS["colon"], LABELS["stomach"], LABELS["small_bowel"]])
    assert (hu[bowel] < -500).sum() * made.ct.voxel_volume_ml > 20


def test_noise_has_the_wanted_strength() -> None:
    quiet, loud = phantom(2, noise_hu=0.0), phantom(2, noise_hu=20.0)
    difference = loud.ct.array.astype(float) - quiet.ct.array
    assert difference[loud.labels.array == LABELS["liver"]].std() == pytest.approx(20, rel=0.1)


def test_fine_noise_is_correlated_between_neighbours() -> None:
    grid = {"spacing": (0.8, 0.8, 5.0), "size": (96, 96, 2)}
    difference = phantom(2, noise_hu=20.0, **grid).ct.array.astype(float) - phantom(2, noise_hu=0.0, **grid).ct.array
    assert np.corrcoef(difference[..., 1:].ravel(), difference[..., :-1].ravel())[0, 1] > 0.2


@pytest.mark.parametrize("organ", TARGETS)
def test_spacing_does_not_change_the_patient(organ: str) -> None:
    fine, coarse = phantom(0, spacing=(3.0, 3.5, 3.0)), phantom(0)
    assert volume_ml(fine, organ) == pytest.approx(volume_ml(coarse, organ), rel=0.12)
    assert np.linalg.norm(center_mm(fine, organ) - center_mm(coarse, organ)) < 2.5


def test_field_of_view_does_not_change_the_patient() -> None:
    whole = phantom(0)
    i, j, k = whole.ct.size
    part = phantom(0, size=(i - 20, j - 10, k - 6))
    inner = whole.labels.array[3:-3, 5:-5, 10:-10]
    assert np.array_equal(inner, part.labels.array)


@pytest.mark.parametrize("letters", ["".join(p) for p in permutations("LPS")])
def test_orientation_shows_the_same_patient(letters: str) -> None:
    """All 48 orders and flips: the voxels at the same place are the same, noise aside."""
    reference = phantom(0, spacing=(12.0, 10.0, 14.0), noise_hu=0.0)
    step = dict(zip("LPS", (12.0, 10.0, 14.0), strict=True))
    opposite = dict(zip("LPS", "RAI", strict=True))
    for flips in product((False, True), repeat=3):
        name = "".join(opposite[c] if flip else c for c, flip in zip(letters, flips, strict=True))
        made = phantom(0, spacing=tuple(step[c] for c in letters), orientation=name, noise_hu=0.0)
        to_reference = np.linalg.inv(reference.ct.ijk_to_world) @ made.ct.ijk_to_world
        for index in [(0, 0, 0), (3, 8, 5), (12, 9, 7)]:
            i, j, k = np.rint(to_reference[:3, :3] @ index + to_reference[:3, 3]).astype(int)
            assert made.ct.array[index[::-1]] == reference.ct.array[k, j, i], name
        assert made.labels.array.sum() == reference.labels.array.sum()


def test_orientation_letters_name_the_matrix() -> None:
    matrix = phantom(0, spacing=(9.0, 10.0, 11.0), orientation="SRA").ct.ijk_to_world
    assert np.allclose(matrix[:3, :3], [[0, -10, 0], [0, 0, -11], [9, 0, 0]])


def test_size_and_field_of_view_are_kept() -> None:
    assert phantom(0, size=(20, 30, 10), orientation="ASL").ct.array.shape == (10, 30, 20)
    made = phantom(0, spacing=(10.0, 8.0, 5.0), orientation="SLP", field_of_view_mm=(160.0, 100.0, 200.0))
    assert np.allclose(made.ct.extent_mm, (200.0, 160.0, 100.0))


@pytest.mark.parametrize(("kidneys", "missing"), [("left", "kidney_right"), ("right", "kidney_left")])
def test_a_single_kidney(kidneys: str, missing: str) -> None:
    made = phantom(0, kidneys=kidneys)
    assert volume_ml(made, missing) == 0
    assert volume_ml(made, f"kidney_{kidneys}") > 80


def test_thick_slices_average_what_lies_in_them() -> None:
    thick = phantom(1, spacing=(3.0, 3.0, 9.0), size=(90, 60, 6), noise_hu=0.0)
    thin = phantom(1, spacing=(3.0, 3.0, 3.0), size=(90, 60, 18), noise_hu=0.0)
    mean = thin.ct.array.reshape(6, 3, 60, 90).mean(axis=1)
    assert np.abs(mean - thick.ct.array).max() < 1.5
    assert np.array_equal(thin.labels.array[1::3], thick.labels.array)


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"seed": -1}, "seed"),
        ({"spacing": (1.0, 0.0, 1.0)}, "spacing"),
        ({"spacing": (1.0, float("nan"), 1.0)}, "spacing"),
        ({"size": (10, 0, 10)}, "size"),
        ({"size": (9, 9, 9), "field_of_view_mm": (90.0, 90.0, 90.0)}, "not both"),
        ({"field_of_view_mm": (90.0, -1.0, 90.0)}, "field of view"),
        ({"phase": "delayed"}, "phase"),
        ({"noise_hu": -3.0}, "noise"),
        ({"kidneys": "none"}, "kidneys"),
        ({"orientation": "LRS"}, "orientation"),
        ({"orientation": "LP"}, "orientation"),
        ({"orientation": "lps"}, "orientation"),
    ],
)
def test_bad_options_are_named(options: dict[str, object], part: str) -> None:
    with pytest.raises(ValueError, match=part):
        PhantomOptions(**options)  # type: ignore[arg-type]


def test_oral_contrast_brightens_the_bowel_and_nothing_else() -> None:
    options = {"seed": 3, "spacing": (5.0, 5.0, 5.0), "phase": "portal venous", "noise_hu": 0.0}
    plain, drunk = (make_phantom(PhantomOptions(**options, oral_contrast=drink)) for drink in (False, True))
    bowel = np.isin(plain.labels.array, (LABELS["colon"], LABELS["small_bowel"]))
    assert np.array_equal(plain.labels.array, drunk.labels.array)
    assert np.median(drunk.ct.array[bowel]) > np.median(plain.ct.array[bowel]) + 50
    liver = plain.labels.array == LABELS["liver"]
    assert abs(np.median(drunk.ct.array[liver].astype(float)) - np.median(plain.ct.array[liver])) < 2
