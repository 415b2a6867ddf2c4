"""Where results go, and what they never replace: real folders, real limits of the system."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from AGTraining.errors import InputError
from AGTraining.evaluation.preview import write_preview
from AGTraining.imaging.files import write_volume
from AGTraining.imaging.volume import Volume
from AGTraining.inference.case_folder import case_folder, require_apart, require_writable
from AGTraining.inference.outputs import write_segmentation, write_table
from AGTraining.inference.result import SegmentResult

OLD = {"p_labels.nii.gz": "old", "p.seg.nrrd": "old", "p_volumes.csv": "old", "p_attention_level2_gate1.nrrd": "old"}
OWN = {"p_ct.nii.gz": "mine", "p_attention_notes.txt": "mine", "p_attention_level2.txt": "mine", "notes.txt": "mine"}
NEW = {"p_labels.nii.gz": "new", "p_volumes.csv": "new"}


def fill(folder: Path, files: dict[str, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file may grow larger: writing fails as on a full disk."""
    resource = pytest.importorskip("resource", reason="this system has no limits for files")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_overwriting_removes_results_alone(tmp_path: Path) -> None:
    fill(tmp_path / "p", OLD | OWN)
    with case_folder(tmp_path, "p", overwrite=True) as folder:
        fill(folder, NEW)
    assert contents(tmp_path / "p") == NEW | OWN
    assert [path.name for path in tmp_path.iterdir()] == ["p"]


def test_scan_of_the_user_whose_name_a_result_takes_is_kept(tmp_path: Path) -> None:
    fill(tmp_path / "p", OLD | OWN)
    with case_folder(tmp_path, "p", overwrite=True) as folder:
        fill(folder, {**NEW, "p_ct.nii.gz": "resampled"})
    now = contents(tmp_path / "p")
    assert now.pop("p_ct.nii.gz") == "resampled"
    assert [text for name, text in now.items() if name.startswith("p_ct.nii.gz.")] == ["mine"]


def test_label_map_that_no_run_left_is_not_overwritten(tmp_path: Path) -> None:
    fill(tmp_path / "p", {"p_labels.nii.gz": "by hand"})
    message = "p_labels.nii.gz is there without p_volumes.csv"
    with pytest.raises(InputError, match=message), case_folder(tmp_path, "p", overwrite=True) as folder:
        fill(folder, NEW)
    assert contents(tmp_path / "p") == {"p_labels.nii.gz": "by hand"}


def test_link_in_the_place_of_results_is_left_alone(tmp_path: Path) -> None:
    fill(tmp_path / "elsewhere", OLD)
    (tmp_path / "p").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="in the way"), case_folder(tmp_path, "p", overwrite=True) as folder:
        fill(folder, NEW)
    assert contents(tmp_path / "elsewhere") == OLD


def test_stop_while_replacing_leaves_the_new_results_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path / "p", OLD | OWN)

    def stop(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "unlink", stop)
    with pytest.raises(KeyboardInterrupt), case_folder(tmp_path, "p", overwrite=True) as folder:
        fill(folder, NEW)
    found = contents(tmp_path / "p")
    assert {name: found[name] for name in found if name not in OWN} == NEW
    (aside,) = (path for path in tmp_path.iterdir() if path.name != "p")
    assert aside.name.endswith(".replaced")
    assert OWN.items() <= (found | contents(aside)).items()


def test_replacing_that_fails_leaves_the_old_results(tmp_path: Path) -> None:
    fill(tmp_path / "p", OLD | OWN)
    with pytest.raises(InputError, match="cannot be written"), case_folder(tmp_path, "p", overwrite=True) as folder:
        fill(folder, NEW)
        folder.rename(tmp_path / "stolen")
    assert contents(tmp_path / "p") == OLD | OWN


def test_second_of_two_runs_says_that_results_are_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="already there"), case_folder(tmp_path, "p", overwrite=False) as slow:
        fill(slow, {"p_volumes.csv": "slow"})
        with case_folder(tmp_path, "p", overwrite=False) as fast:
            fill(fast, {"p_volumes.csv": "fast"})
    assert contents(tmp_path / "p") == {"p_volumes.csv": "fast"}
    assert [path.name for path in tmp_path.iterdir()] == ["p"]


@pytest.mark.parametrize("inside", ["p", "p/ct.nii.gz", "p/deep/ct.nii.gz"])
def test_folder_of_an_input_is_no_place_for_results(tmp_path: Path, inside: str) -> None:
    (tmp_path / "p").mkdir()
    with pytest.raises(InputError, match="belongs to the input") as error:
        require_apart([tmp_path / "q.nii", tmp_path / inside], tmp_path, ["q", "p"])
    assert "--overwrite" not in str(error.value)


def test_folder_of_an_input_is_known_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "data" / "p").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "data")
    with pytest.raises(InputError, match="belongs to the input"):
        require_apart([tmp_path / "data" / "p"], tmp_path / "link", ["p"])


def test_results_beside_an_input_are_allowed(tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    (tmp_path / "results" / "p").mkdir(parents=True)
    require_apart([tmp_path / "p"], tmp_path / "results", ["p"])
    with case_folder(tmp_path / "results", "p", overwrite=False) as folder:
        fill(folder, NEW)
    assert contents(tmp_path / "results" / "p") == NEW


def test_too_long_name_is_refused_beforehand(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a shorter name") as error:
        require_writable(tmp_path, "x" * 230)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []
    require_writable(tmp_path, "x" * 200)


@pytest.fixture
def result() -> SegmentResult:
    """A result of random labels, whose files do not shrink to nothing."""
    labels = np.random.default_rng(0).integers(0, 5, (24, 40, 40)).astype(np.uint8)
    return SegmentResult(Volume(labels, np.diag([2.0, 2.0, 3.0, 1.0])), ())


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limits for files")
@pytest.mark.parametrize("kind", ["labels", "segmentation", "table", "preview"])
def test_full_disk_is_one_sentence_and_leaves_nothing(tmp_path: Path, result: SegmentResult, kind: str) -> None:
    writers = {
        "labels": lambda folder: write_volume(result.labels, folder / "p_labels.nii.gz"),
        "segmentation": lambda folder: write_segmentation(result.labels, [], folder / "p.seg.nrrd"),
        "table": lambda folder: write_table(result, folder / "p_volumes.csv"),
        "preview": lambda folder: write_preview(folder / "p.png", result.labels, result.labels, (), {}),
    }
    with (
        pytest.raises(InputError, match=r"cannot be written .*disk") as error,
        case_folder(tmp_path, "p", overwrite=False) as folder,
        largest_file(20),
    ):
        writers[kind](folder)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []
