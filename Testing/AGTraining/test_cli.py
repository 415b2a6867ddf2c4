"""The command line as users run it: subprocesses on real files, with the real engine and an untrained network."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from matplotlib import image as pictures

from AGTraining import bundle
from AGTraining.batch import name_cases
from AGTraining.cli import main
from AGTraining.data.phantom import PhantomOptions, make_phantom
from AGTraining.imaging.files import read_volume, write_volume
from AGTraining.imaging.intensity import IntensityRule
from AGTraining.imaging.volume import Volume
from AGTraining.networks import AttentionUNet

CLASSES = [
    bundle.OrganClass(name="pancreas", type_code="15776009", type_meaning="Pancreas", color=(249, 180, 111)),
    bundle.OrganClass(name="spleen", type_code="78961009", type_meaning="Spleen", color=(157, 108, 162)),
    bundle.OrganClass(name="kidney", type_code="64033007", type_meaning="Kidney", color=(185, 102, 83), paired=True),
]
ORGANS = ["pancreas", "spleen", "right kidney", "left kidney"]


def save_model(path: Path, background: float = 0.0) -> Path:
    """A seeded, untrained model on an 8 mm grid; `background` is added to the background's logit."""
    arguments: dict[str, Any] = {"num_classes": 4, "features": (2, 3, 4, 5, 6), "sub_gates": 2}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = AttentionUNet(**arguments)
    assert network.fuse is not None and network.fuse.bias is not None
    with torch.no_grad():
        network.fuse.bias[0] += background
    info = bundle.BundleInfo(
        name="untrained",
        network="AttentionUNet",
        arguments=arguments,
        spacing_mm=(8.0, 8.0, 8.0),
        intensity=IntensityRule(),
        classes=CLASSES,
        provenance={"data": "none"},
        metrics={"DSC": {"spleen": 0.0}},
        licence="CC0-1.0",
    )
    bundle.save(path, network, info)
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("model") / "untrained.safetensors")


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A coarse phantom in an orientation that is not that of the files (RAI), in a folder with a blank."""
    path = tmp_path_factory.mktemp("my scans") / "Müller ct.nii.gz"
    write_volume(make_phantom(PhantomOptions(seed=1, spacing=(5.0, 5.0, 6.0), orientation="RAI")).ct, path)
    return path


def run(*arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "AGTraining", *map(str, arguments)]
    folder = Path(__file__).resolve().parents[2]
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", cwd=folder, check=False, **options)


@pytest.fixture(scope="module")
def finished(model: Path, scan: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A batch of a good scan, a damaged one that makes ITK print on stdout, and a missing one; with --json."""
    folder = tmp_path_factory.mktemp("batch")
    damaged = folder / "damaged.mha"
    write_volume(read_volume(scan), damaged)
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 0xFF
    damaged.write_bytes(content)
    out = folder / "results"
    result = run(
        "segment", damaged, scan, folder / "missing.nii", "--model", model, "--out", out, "--attention", "--json",
        "--device", "cpu",
    )  # fmt: skip
    assert result.returncode == 1, result.stderr
    assert "Traceback" not in result.stderr
    return out, json.loads(result.stdout)


def test_batch_goes_on_and_reports_each_case(finished: tuple[Path, dict[str, Any]]) -> None:
    out, document = finished
    assert [case["status"] for case in document["cases"]] == ["failed", "ok", "failed"]
    assert document["failed"] == 2
    assert document["interrupted"] is False
    assert "damaged" in document["cases"][0]["error"]
    assert document["cases"][2]["code"] == "input"
    assert [path.name for path in out.iterdir()] == ["Müller ct"]


def test_all_files_are_there_and_named(finished: tuple[Path, dict[str, Any]]) -> None:
    out, document = finished
    files = {kind: Path(path) for kind, path in document["cases"][1]["files"].items()}
    assert {kind: path.name for kind, path in files.items()} == {
        "labels": "Müller ct_labels.nii.gz",
        "segmentation": "Müller ct.seg.nrrd",
        "table": "Müller ct_volumes.csv",
        "preview": "Müller ct_preview.png",
        "attention.level2": "Müller ct_attention_level2.nii.gz",
        "attention.level3": "Müller ct_attention_level3.nii.gz",
        "attention.level4": "Müller ct_attention_level4.nii.gz",
    }
    assert set((out / "Müller ct").iterdir()) == set(files.values())


def test_label_map_lies_on_the_scan(finished: tuple[Path, dict[str, Any]], scan: Path) -> None:
    labels = read_volume(finished[1]["cases"][1]["files"]["labels"])
    assert labels.array.dtype == np.uint8
    assert labels.same_grid(read_volume(scan))
    assert set(np.unique(labels.array)) <= {0, 1, 2, 3, 4}
    assert np.allclose(nibabel.load(labels.name).affine, nibabel.load(scan).affine, atol=1e-4)


def test_numbers_are_those_of_the_label_map(finished: tuple[Path, dict[str, Any]], scan: Path) -> None:
    case = finished[1]["cases"][1]
    labels, ct = read_volume(case["files"]["labels"]), read_volume(scan)
    with open(case["files"]["table"], encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["organ"] for row in rows] == [organ["organ"] for organ in case["organs"]] == ORGANS
    assert any(organ["found"] for organ in case["organs"])
    for value, (row, organ) in enumerate(zip(rows, case["organs"], strict=True), 1):
        inside = ct.array[labels.array == value]
        assert int(row["voxels"]) == organ["voxels"] == inside.size
        assert float(row["volume_ml"]) == pytest.approx(inside.size * 0.15, abs=1e-2)
        if inside.size:
            assert float(row["mean_hu"]) == pytest.approx(inside.mean(), abs=0.01)
            assert organ["sd_hu"] == pytest.approx(inside.std(), abs=0.01)


def test_slicer_reads_the_segmentation(finished: tuple[Path, dict[str, Any]], scan: Path) -> None:
    slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")
    vtk = pytest.importorskip("vtk")
    case = finished[1]["cases"][1]
    scene = slicer.vtkMRMLScene()
    node, storage = slicer.vtkMRMLSegmentationNode(), slicer.vtkMRMLSegmentationStorageNode()
    scene.AddNode(node)
    scene.AddNode(storage)
    storage.SetFileName(case["files"]["segmentation"])
    assert storage.ReadData(node) == 1
    segmentation = node.GetSegmentation()
    found = [organ for organ in case["organs"] if organ["found"]]
    names = [segmentation.GetNthSegment(n).GetName() for n in range(segmentation.GetNumberOfSegments())]
    assert names == [organ["organ"] for organ in found]
    left = segmentation.GetSegment("left_kidney")
    assert left.GetTerminology() == (
        "Segmentation category and type - 3D Slicer General Anatomy list~SCT^123037004^Anatomical Structure~"
        "SCT^64033007^Kidney~SCT^7771000^Left~~^^~^^"
    )
    assert left.GetColor() == pytest.approx((185 / 255, 102 / 255, 83 / 255), abs=1e-5)
    ras_from_lps = np.diag([-1.0, -1.0, 1.0, 1.0])
    expected = ras_from_lps @ read_volume(scan).ijk_to_world
    for organ in found:
        labelmap = slicer.vtkOrientedImageData()
        node.GetBinaryLabelmapRepresentation(organ["organ"].replace(" ", "_"), labelmap)
        scalars = labelmap.GetPointData().GetScalars()
        voxels = np.array([scalars.GetTuple1(n) for n in range(scalars.GetNumberOfTuples())])
        assert int((voxels > 0).sum()) == organ["voxels"]
        matrix = vtk.vtkMatrix4x4()
        labelmap.GetImageToWorldMatrix(matrix)
        actual = np.array([[matrix.GetElement(r, c) for c in range(4)] for r in range(4)])
        assert np.allclose(actual, expected, atol=1e-3)


def test_attention_maps_lie_on_the_patient(finished: tuple[Path, dict[str, Any]], scan: Path) -> None:
    case, ct = finished[1]["cases"][1], read_volume(scan)
    center = ct.ijk_to_world @ np.array([*(np.asarray(ct.size) / 2), 1.0])
    for level, spacing in (("level2", 16.0), ("level3", 32.0), ("level4", 64.0)):
        attention = read_volume(case["files"][f"attention.{level}"])
        assert attention.array.dtype == np.float32
        assert attention.spacing == pytest.approx([spacing] * 3, rel=1e-3)
        assert 0.0 <= attention.array.min() <= attention.array.max() <= 1.0
        index = np.linalg.inv(attention.ijk_to_world) @ center
        assert np.all(index[:3] > -0.5) and np.all(index[:3] < np.asarray(attention.size))


def test_preview_is_a_picture_with_rows_for_the_attention(finished: tuple[Path, dict[str, Any]]) -> None:
    picture = pictures.imread(finished[1]["cases"][1]["files"]["preview"])
    assert picture.shape[0] > 1000
    assert picture[..., :3].std() > 0.1


def test_messages_and_times_are_reported(finished: tuple[Path, dict[str, Any]]) -> None:
    case = finished[1]["cases"][1]
    assert {"read", "write", "preview"} < set(case["seconds"])
    assert all(seconds >= 0 for seconds in case["seconds"].values())
    assert "CPU" in case["device"]
    assert all(message.endswith(".") for message in case["messages"])


def test_results_are_not_replaced_unless_asked(
    finished: tuple[Path, dict[str, Any]], model: Path, scan: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = finished[0]
    labels = out / "Müller ct" / "Müller ct_labels.nii.gz"
    before = labels.stat().st_mtime_ns
    assert main(["segment", str(scan), "--model", str(model), "--out", str(out)]) == 1
    assert "results are already there" in capsys.readouterr().err
    assert labels.stat().st_mtime_ns == before


def test_overwrite_replaces_results_and_drops_old_attention_maps(model: Path, scan: Path, tmp_path: Path) -> None:
    folder = tmp_path / "Müller ct"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    (folder / "Müller ct_labels.nii.gz").write_text("old")
    (folder / "Müller ct_volumes.csv").write_text("old")
    (folder / "Müller ct_attention_level2.nii.gz").write_text("old")
    assert main(["segment", str(scan), "--model", str(model), "--out", str(tmp_path), "--overwrite"]) == 0
    names = {path.name.removeprefix("Müller ct") for path in folder.iterdir()}
    assert names == {"notes.txt", "_labels.nii.gz", ".seg.nrrd", "_volumes.csv", "_preview.png"}
    assert read_volume(folder / "Müller ct_labels.nii.gz").same_grid(read_volume(scan))
    assert [path.name for path in tmp_path.iterdir()] == ["Müller ct"]


def test_nothing_found_is_said_and_still_a_result(
    scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = save_model(tmp_path / "empty.safetensors", background=100.0)
    assert main(["segment", str(scan), "--model", str(empty), "--out", str(tmp_path / "out")]) == 0
    output = capsys.readouterr().out
    assert "spleen           not found" in output
    assert "not found: pancreas, spleen, right kidney, left kidney." in output
    with open(tmp_path / "out" / "Müller ct" / "Müller ct_volumes.csv", encoding="utf-8") as file:
        assert file.read().splitlines()[1] == "pancreas,0.000,,,0,"


def test_failed_case_leaves_nothing_behind(
    model: Path, scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from AGTraining.evaluation import preview

    def fail(*arguments: object) -> None:
        raise ZeroDivisionError("no such slice")

    monkeypatch.setattr(preview, "write_preview", fail)
    assert main(["segment", str(scan), "--model", str(model), "--out", str(tmp_path / "out")]) == 1
    assert list((tmp_path / "out").iterdir()) == []
    errors = capsys.readouterr().err
    assert "An unforeseen problem (ZeroDivisionError: no such slice); --debug shows where." in errors
    assert "Traceback" not in errors


def test_sheared_scan_is_segmented_upright(
    model: Path, scan: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    ct = read_volume(scan)
    sheared = np.diag([-1.0, -1.0, 1.0, 1.0]) @ ct.ijk_to_world
    sheared[1, 2] += 2.0
    image = nibabel.Nifti1Image(ct.array.T, sheared)
    image.set_qform(None, 0)
    nibabel.save(image, tmp_path / "tilted.nii.gz")
    arguments = ["segment", str(tmp_path / "tilted.nii.gz"), "--model", str(model), "--out", str(tmp_path), "--json"]
    assert main(arguments) == 0
    (case,) = json.loads(capfd.readouterr().out)["cases"]
    upright, labels = read_volume(case["files"]["ct"]), read_volume(case["files"]["labels"])
    assert labels.same_grid(upright)
    assert sorted(upright.spacing) == pytest.approx(sorted(Volume(ct.array, sheared).spacing), rel=1e-3)
    assert any("resampled upright" in message for message in case["messages"])
    # The body stays where the header puts it.
    k, j, i = np.argwhere(ct.array > -200).mean(axis=0)
    middle = np.diag([-1.0, -1.0, 1.0, 1.0]) @ sheared @ (i, j, k, 1.0)
    body = np.argwhere(upright.array > -200).mean(axis=0)[::-1]
    assert (upright.ijk_to_world @ (*body, 1.0))[:3] == pytest.approx(middle[:3], abs=2.0)


def test_interrupt_ends_with_130_and_no_half_case(model: Path, scan: Path, tmp_path: Path) -> None:
    scans = [tmp_path / f"scan{n:02}.nii.gz" for n in range(20)]
    for path in scans:
        path.write_bytes(scan.read_bytes())
    command = [sys.executable, "-u", "-m", "AGTraining", "segment", *scans, "--model", model, "--out", tmp_path / "out"]
    process = subprocess.Popen(
        [str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8",
        cwd=Path(__file__).resolve().parents[2], env={**os.environ, "PYTHONIOENCODING": "utf-8"},
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline().startswith("scan00: ")
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Interrupted" in errors and "of 20 scans are done" in errors
    assert "Traceback" not in errors
    finished = list((tmp_path / "out").iterdir())
    assert 1 <= len(finished) < 20
    for folder in finished:
        assert not folder.name.startswith(".")
        assert (folder / f"{folder.name}_preview.png").is_file()


def test_missing_input_is_one_sentence(tmp_path: Path) -> None:
    result = run("segment", tmp_path / "none.nii.gz", "--out", tmp_path / "out")
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr == f"error: {tmp_path / 'none.nii.gz'}: no such file or folder; check the path.\n"


def test_json_tells_why_nothing_was_done(tmp_path: Path) -> None:
    result = run("segment", tmp_path / "none.nii.gz", "--out", tmp_path / "out", "--json")
    assert result.returncode == 1
    document = json.loads(result.stdout)
    assert document["cases"] == []
    assert document["code"] == "input"
    assert "no such file or folder" in document["error"]


def test_unusable_model_is_one_sentence(scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"weights": torch.zeros(3)}, tmp_path / "model.pt")
    arguments = ["segment", str(scan), "--out", str(tmp_path / "out"), "--model", str(tmp_path / "model.pt")]
    assert main(arguments) == 1
    errors = capsys.readouterr().err
    assert errors.startswith("error: ") and errors.count("\n") == 1 and "model.pt" in errors
    assert not (tmp_path / "out").exists()


def test_unknown_device_is_one_sentence(model: Path, scan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["segment", str(scan), "--out", "unused", "--model", str(model), "--device", "abacus"]) == 1
    assert "Device 'abacus' is not known" in capsys.readouterr().err


def test_debug_shows_the_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["segment", str(tmp_path / "none.nii"), "--out", str(tmp_path), "--debug"]) == 1
    assert "Traceback (most recent call last)" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["segment"],
        ["segment", "ct.nii"],
        ["segment", "--out", "x"],
        ["segment", "ct.nii", "--out", "x", "--tile", "0", "16", "16"],
        ["segment", "ct.nii", "--out", "x", "--attention", "everything"],
        ["phantom", "--out", "x", "--spacing", "1", "1", "-2"],
        ["paint"],
    ],
)
def test_wrong_usage_ends_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom AGTraining.cli import main\n"
        "try:\n    main(['segment', '--help'])\nexcept SystemExit as end:\n    assert end.code == 0\n"
        "print(sorted({'torch', 'numpy', 'SimpleITK', 'matplotlib', 'pydantic', 'monai'} & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).resolve().parents[2],
    )
    assert result.stdout.splitlines()[-1] == "[]"
    assert "--keep-all-components" in result.stdout


def test_describe_prints_the_model_card(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["describe", str(model)]) == 0
    output = capsys.readouterr().out
    for text in (
        "# untrained",
        "AttentionUNet(num_classes=4",
        "8 × 8 × 8 mm",
        "| 4     | left kidney ",
        "CC0-1.0",
        "DSC:",
    ):
        assert text in output


def test_describe_as_json_is_the_metadata(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["describe", str(model), "--json"]) == 0
    assert bundle.BundleInfo.model_validate_json(capsys.readouterr().out) == bundle.read_info(model)


@pytest.mark.parametrize(
    ("out", "ct", "labels"),
    [("made", "made/ct.nii.gz", "made/labels.nii.gz"), ("made/p.nrrd", "made/p.nrrd", "made/p_labels.nrrd")],
)
def test_phantom_writes_scan_and_labels(tmp_path: Path, out: str, ct: str, labels: str) -> None:
    assert main(["phantom", "--out", str(tmp_path / out), "--seed", "3", "--spacing", "6", "6", "7"]) == 0
    scan, organs = read_volume(tmp_path / ct), read_volume(tmp_path / labels)
    assert scan.spacing == pytest.approx((6, 6, 7), rel=1e-4)
    assert organs.same_grid(scan)
    assert {1, 2, 3, 4} <= set(np.unique(organs.array))


def test_case_names_tell_same_named_files_apart(tmp_path: Path) -> None:
    inputs = ["a/x/ct.nii.gz", "b/x/ct.nii.gz", "b/mr.mha", "b/x/CT.nrrd"]
    cases = name_cases(tmp_path / name for name in inputs)
    assert [case.name for case in cases] == ["a_x_ct", "b_x_ct", "mr", "b_x_CT_2"]
    assert [case.path for case in cases] == [tmp_path / name for name in inputs]


def test_dicom_folder_keeps_its_whole_name(tmp_path: Path) -> None:
    (tmp_path / "series 2.5mm").mkdir()
    assert name_cases([tmp_path / "series 2.5mm"])[0].name == "series 2.5mm"


def test_input_named_twice_is_one_case(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    assert len(name_cases([tmp_path / "ct.nii", tmp_path / "a" / ".." / "ct.nii"])) == 1
