from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib import image as pictures
from matplotlib._pylab_helpers import Gcf

from AGTraining.evaluation.preview import choose_planes, draw_preview, write_preview
from AGTraining.imaging.resample import Grid, resample
from AGTraining.imaging.volume import Volume
from AGTraining.inference.result import OrganStatistics
from AGTraining.labels import OutputLabel

SPLEEN_COLOR = (157, 108, 162)


def make_organ(value: int, name: str, voxels: int, color: tuple[int, int, int] = SPLEEN_COLOR) -> OrganStatistics:
    label = OutputLabel(value, name, name, "123037004", "Anatomical Structure", "1", name, None, None, color)
    return OrganStatistics(label, voxels, voxels * 0.018, 50.0, 10.0, 0.9)


@pytest.fixture
def scan() -> tuple[Volume, Volume]:
    """A body with an organ up, front and left of the patient's middle, (60, 80, 100) voxels of 3 × 3 × 4 mm."""
    matrix = np.diag([3.0, 3.0, 4.0, 1.0])
    matrix[:3, 3] = (-150.0, -120.0, 500.0)
    ct = np.full((60, 80, 100), -1000, dtype=np.int16)
    ct[:, 10:70, 10:90] = 40
    labels = np.zeros(ct.shape, dtype=np.uint8)
    labels[40:52, 15:30, 60:80] = 2
    ct[labels > 0] = 200
    return Volume(ct, matrix, "scan"), Volume(labels, matrix, "labels")


def turned(volume: Volume) -> Volume:
    """The same voxels at the same places, axes permuted and one flipped."""
    array = np.ascontiguousarray(volume.array.transpose(2, 0, 1)[::-1])
    matrix = volume.ijk_to_world[:, [1, 2, 0, 3]].copy()
    matrix[:3, 3] += matrix[:3, 2] * (array.shape[0] - 1)
    matrix[:3, 2] *= -1
    return Volume(array, matrix, volume.name)


def test_patient_is_seen_as_radiologists_do(scan: tuple[Volume, Volume]) -> None:
    axial, coronal, sagittal = (plane.sample(scan[0], 1, -1024) > 120 for plane in choose_planes(*scan))
    for mask, left, top in ((axial, 0.5, 0.0), (coronal, 0.5, 0.0), (sagittal, 0.0, 0.0)):
        rows, columns = np.nonzero(mask)
        height, width = mask.shape
        # Left of the patient is right in the picture; front and head are on top; front is left in the sagittal view.
        assert left <= columns.mean() / width < left + 0.5
        assert top <= rows.mean() / height < 0.5


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("/home/anna/patients/p1/ct.nii.gz", "p1/ct.nii.gz"),
        (r"C:\Users\Anna\p1\ct.nii.gz", "p1/ct.nii.gz"),
        ("CT 3", "CT 3"),
    ],
)
def test_title_keeps_the_users_folders_private(scan: tuple[Volume, Volume], name: str, title: str) -> None:
    ct, labels = scan
    figure = draw_preview(ct.with_array(ct.array, name), labels, (), {})
    assert figure.get_suptitle() == title


def test_planes_show_every_organ(scan: tuple[Volume, Volume]) -> None:
    ct, labels = scan
    labels.array[5:20, 50:65, 15:30] = 1
    for plane in choose_planes(ct, labels):
        assert plane.sample(labels, 0, 0).any()


def test_turned_scan_looks_the_same(scan: tuple[Volume, Volume]) -> None:
    other = tuple(turned(volume) for volume in scan)
    for plane, same in zip(choose_planes(*scan), choose_planes(*other), strict=True):
        assert np.allclose(plane.points, same.points)
        assert np.allclose(plane.sample(scan[0], 1, -1024), same.sample(other[0], 1, -1024), atol=1e-2)
        # Points halfway between two voxels may fall to either.
        assert np.mean(plane.sample(scan[1], 0, 0) != same.sample(other[1], 0, 0)) < 0.01


def test_oblique_scan_shows_the_organ_where_it_is(scan: tuple[Volume, Volume]) -> None:
    c, s = np.cos(0.4), np.sin(0.4)
    matrix = np.eye(4)
    matrix[:3, :3] = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ np.diag([2.5, 2.5, 4.0])
    matrix[:3, 3] = np.array([0, 0, 620]) - matrix[:3, :3] @ (80, 80, 30)
    grid = Grid((60, 160, 160), matrix)
    ct = Volume(resample(scan[0], grid, -1000.0), matrix)
    labels = Volume(resample(scan[1], grid, 0, nearest=True), matrix)
    for plane, oblique in zip(choose_planes(*scan), choose_planes(ct, labels), strict=True):
        assert oblique.position == pytest.approx(plane.position, abs=8)
        straight = plane.points[plane.sample(scan[1], 0, 0) > 0].mean(axis=0)
        turned_center = oblique.points[oblique.sample(labels, 0, 0) > 0].mean(axis=0)
        assert np.abs(straight - turned_center).max() < 8


def test_picture_is_true_to_scale(scan: tuple[Volume, Volume]) -> None:
    for plane in choose_planes(*scan):
        rows, columns = plane.points.shape[:2]
        assert plane.width / columns == pytest.approx(plane.height / rows, rel=0.02)


def test_long_scan_is_cropped_to_the_organs(scan: tuple[Volume, Volume]) -> None:
    ct, labels = scan
    ct = Volume(np.concatenate([ct.array] + [ct.array[:30] * 0 - 1000] * 6), ct.ijk_to_world)
    labels = Volume(np.concatenate([labels.array] + [labels.array[:30] * 0] * 6), ct.ijk_to_world)
    _, coronal, _ = choose_planes(ct, labels)
    heights = coronal.points[..., 2]
    assert heights.min() == pytest.approx(500 + 40 * 4 - 80, abs=4)
    assert heights.max() == pytest.approx(500 + 51 * 4 + 80, abs=4)


def test_written_picture_has_contours_in_the_organs_color(scan: tuple[Volume, Volume], tmp_path: Path) -> None:
    organs = [make_organ(2, "spleen", int((scan[1].array == 2).sum()))]
    write_preview(tmp_path / "with.png", *scan, organs, {})
    empty = scan[1].with_array(scan[1].array * 0)
    write_preview(tmp_path / "without.png", scan[0], empty, [make_organ(2, "spleen", 0)], {})

    def colored(name: str) -> int:
        picture = np.rint(pictures.imread(tmp_path / name)[..., :3] * 255)
        return int((np.abs(picture - SPLEEN_COLOR).max(axis=-1) < 12).sum())

    assert colored("with.png") > 500
    assert colored("without.png") < 20


def test_legend_tells_volumes_and_what_was_not_found(scan: tuple[Volume, Volume]) -> None:
    figure = draw_preview(*scan, [make_organ(1, "pancreas", 0), make_organ(2, "spleen", 10000)], {})
    legend = next(axes.get_legend() for axes in figure.axes if axes.get_legend())
    assert [text.get_text() for text in legend.get_texts()] == ["pancreas\nnot found", "spleen\n180.0 ml"]


def test_each_attention_map_gets_a_row_in_its_own_place(scan: tuple[Volume, Volume]) -> None:
    coarse = np.zeros((15, 20, 25), dtype=np.float32)
    coarse[10:13, 4:7, 15:20] = 1.0
    matrix = scan[0].ijk_to_world @ np.diag([4.0, 4.0, 4.0, 1.0])
    matrix[:3, 3] += 1.5 * scan[0].spacing
    maps = {name: Volume(coarse, matrix, name) for name in ("level2", "level3.gate1")}
    figure = draw_preview(*scan, [make_organ(2, "spleen", 10)], maps)
    titles = [axes.get_ylabel() for axes in figure.axes if axes.get_ylabel().startswith("attention, ")]
    assert titles == ["attention, level 2", "attention, level 3, gate 1"]
    overlays = [axes.images[1].get_array() for axes in figure.axes if len(axes.images) == 2]
    assert len(overlays) == 6
    for plane, overlay in zip(choose_planes(*scan), overlays[::2], strict=True):
        hot = plane.points[np.ma.filled(overlay, 0) > 0.5]
        assert hot.mean(axis=0) == pytest.approx(plane.points[plane.sample(scan[1], 0, 0) > 0].mean(axis=0), abs=8)


def test_values_without_air_are_windowed_by_what_they_are(scan: tuple[Volume, Volume]) -> None:
    mr = scan[0].with_array((scan[0].array.astype(np.float32) + 1000) * 3)
    figure = draw_preview(mr, scan[1], [], {})
    low, high = figure.axes[0].images[0].get_clim()
    assert 0 <= low < 3000 < high


def test_non_finite_voxels_are_drawn_as_air(scan: tuple[Volume, Volume]) -> None:
    ct = scan[0].with_array(scan[0].array.astype(np.float32))
    ct.array[:, 40, :] = np.nan
    for axes in draw_preview(ct, scan[1], [], {}).axes:
        for picture in axes.images:
            assert np.isfinite(np.ma.filled(picture.get_array(), 0)).all()


def test_nothing_is_left_in_pyplot(scan: tuple[Volume, Volume]) -> None:
    before = len(Gcf.get_all_fig_managers())
    draw_preview(*scan, [], {})
    assert len(Gcf.get_all_fig_managers()) == before


def test_names_with_dollars_are_drawn_as_they_are(scan: tuple[Volume, Volume], tmp_path: Path) -> None:
    """Matplotlib takes text between dollars as a formula, and this one is none."""
    ct, labels = scan
    attention = {"$gate_{$": ct.with_array(np.full(ct.array.shape, 0.5, dtype=np.float32))}
    figure = draw_preview(ct.with_array(ct.array, "$scan_{$"), labels, [make_organ(2, "$organ_{$", 3600)], attention)
    figure.savefig(tmp_path / "preview.png")
    assert pictures.imread(tmp_path / "preview.png")[..., :3].std() > 0.05
