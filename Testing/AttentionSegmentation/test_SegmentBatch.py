from __future__ import annotations

import csv
import importlib.util
import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk
import slicer
from AttentionSegmentationLib.Segmentation.BatchSegmentation import BatchSegmentation
from AttentionSegmentationLib.Segmentation.ProcessingOptions import ProcessingOptions

from AGTraining import cli
from AGTraining.batch import Case
from AGTraining.errors import InputError
from AGTraining.imaging.files import write_volume
from AGTraining.imaging.volume import Volume

SCRIPT = Path(__file__).resolve().parents[2] / "AttentionSegmentation" / "Scripts" / "SegmentBatch.py"


@pytest.fixture
def script():
    """The script as a module, for its functions."""
    specification = importlib.util.spec_from_file_location("SegmentBatch", SCRIPT)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def makeScan(seed=0, oblique=False):
    """A small CT with a body in it; its geometry is flipped, in numbers that every format keeps, or oblique."""
    _k, j, i = np.mgrid[0:20, 0:40, 0:48]
    inside = ((i - 24) / 20) ** 2 + ((j - 20) / 16) ** 2 < 1
    noise = np.random.default_rng(seed).normal(40, 60, inside.shape)
    matrix = np.diag([-1.75, 2.0, -3.0, 1.0])
    matrix[:3, 3] = (41, -38, 900)
    if oblique:
        turn = np.linalg.qr([[0.99, 0.1, 0], [-0.1, 0.98, 0.1], [0, -0.1, 0.99]])[0]
        matrix[:3, :3] = turn @ np.diag([1.8, 2.1, 3.0])
    return Volume(np.where(inside, noise, -1000).astype(np.int16), matrix)


def writeDicom(folder, volume):
    """The scan as a folder of DICOM slices."""
    folder.mkdir(parents=True)
    image = volume.to_sitk()
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    direction = image.GetDirection()
    shared = {
        "0008|0060": "CT",
        "0008|0008": "DERIVED\\SECONDARY",
        "0020|000d": "1.2.826.0.1.3680043.2.1125.7",
        "0020|000e": "1.2.826.0.1.3680043.2.1125.7.1",
        "0020|0052": "1.2.826.0.1.3680043.2.1125.7.2",
        "0020|0037": "\\".join(f"{direction[n]:.9g}" for n in (0, 3, 6, 1, 4, 7)),
        "0028|1052": "0",
        "0028|1053": "1",
    }
    for n in range(image.GetDepth()):
        piece = image[:, :, n]
        position = image.TransformIndexToPhysicalPoint((0, 0, n))
        own = {
            "0008|0018": f"1.2.826.0.1.3680043.2.1125.7.1.{n + 1}",
            "0020|0032": "\\".join(f"{p:.9g}" for p in position),
            "0020|0013": str(n + 1),
        }
        for key, value in (shared | own).items():
            piece.SetMetaData(key, value)
        writer.SetFileName(str(folder / f"{n:03}.dcm"))
        writer.Execute(piece)
    return folder


def readLabels(path):
    return Volume.from_sitk(sitk.ReadImage(str(path)))


@pytest.fixture(scope="module")
def run(tmp_path_factory, tinyBundle):
    """One batch over good and bad scans, in a process of its own, as a user would start it."""
    folder = tmp_path_factory.mktemp("Prüfung mit Leerzeichen")
    scan = makeScan()
    scans = SimpleNamespace(
        nifti=folder / "a" / "ct größe.nii.gz",
        same=folder / "b" / "ct größe.nii.gz",
        nrrd=folder / "scan 2.nrrd",
        mha=folder / "scan3.mha",
        broken=folder / "broken.nii.gz",
        missing=folder / "missing.nrrd",
        dicom=writeDicom(folder / "dicom series", scan),
    )
    write_volume(scan, scans.nifti)
    write_volume(makeScan(1, oblique=True), scans.same)
    write_volume(scan, scans.nrrd)
    write_volume(scan, scans.mha)
    scans.broken.write_bytes(scans.nifti.read_bytes()[:2000])
    out = folder / "Ergebnisse für Anna"
    arguments = [*map(str, vars(scans).values()), "--out", str(out), "--model", str(tinyBundle), "--device", "cpu"]
    process = subprocess.run(
        [sys.executable, str(SCRIPT), "--", *arguments, "--attention"],
        capture_output=True,
        text=True,
        encoding="utf-8",
        env=os.environ | {"PYTHONUTF8": "1"},
        cwd=folder,
    )
    return SimpleNamespace(process=process, scans=scans, out=out, scan=scan)


GOOD = ["a_ct größe", "b_ct größe", "scan 2", "scan3", "dicom series"]


def test_exit_code_tells_that_scans_failed(run):
    assert run.process.returncode == 1, run.process.stderr


def test_all_other_scans_are_segmented_under_names_of_their_own(run):
    assert sorted(folder.name for folder in run.out.iterdir()) == sorted(GOOD)
    for name in GOOD:
        maps = {f"{name}_attention_level{level}.nrrd" for level in (2, 3, 4)}
        files = {file.name for file in (run.out / name).iterdir()}
        assert files == {f"{name}.seg.nrrd", f"{name}_volumes.csv"} | maps


def test_summary_counts_and_names_the_failures(run):
    lines = run.process.stdout.splitlines()
    assert "5 of 7 scans segmented, 2 failed:" in lines
    failures = lines[lines.index("5 of 7 scans segmented, 2 failed:") + 1 :]
    assert len(failures) == 2
    assert "broken.nii.gz" in failures[0]
    assert "missing.nrrd: no such file or folder" in failures[1]
    assert "Traceback" not in run.process.stdout + run.process.stderr


def test_progress_goes_to_stderr(run):
    lines = run.process.stderr.splitlines()
    assert "[1/7] a_ct größe: started" in lines
    assert "[5/7] broken: failed" in lines
    assert any(line.startswith("[7/7] dicom series: done in ") for line in lines)


def test_file_formats_give_the_same_labels(run):
    first = readLabels(run.out / "a_ct größe" / "a_ct größe.seg.nrrd")
    assert first.array.max() > 0
    for name in ("scan 2", "scan3", "dicom series"):
        other = readLabels(run.out / name / f"{name}.seg.nrrd")
        np.testing.assert_array_equal(other.array, first.array)
        assert other.same_grid(run.scan)


def test_different_scans_of_one_name_are_not_mixed_up(run):
    first, second = (readLabels(run.out / name / f"{name}.seg.nrrd").array for name in GOOD[:2])
    assert (first != second).any()


def test_command_line_gives_identical_labels(run, tinyBundle, tmp_path):
    inputs = [str(run.scans.nifti), str(run.scans.same)]
    assert cli.main(["segment", *inputs, "--out", str(tmp_path), "--model", str(tinyBundle), "--device", "cpu"]) == 0
    for name in GOOD[:2]:
        expected = readLabels(tmp_path / name / f"{name}_labels.nii.gz")
        found = readLabels(run.out / name / f"{name}.seg.nrrd")
        assert expected.array.max() > 0
        np.testing.assert_array_equal(found.array, expected.array)
        assert found.same_grid(expected)


def test_saved_segmentation_has_terminology_for_slicer(run, scene):
    path = run.out / GOOD[0] / f"{GOOD[0]}.seg.nrrd"
    node = slicer.modules.segmentations.logic().LoadSegmentationFromFile(str(path))
    segmentation = node.GetSegmentation()
    values = set(np.unique(readLabels(path).array)) - {0}
    assert {segmentation.GetNthSegment(n).GetLabelValue() for n in range(segmentation.GetNumberOfSegments())} == values
    for n in range(segmentation.GetNumberOfSegments()):
        entry = segmentation.GetNthSegment(n).GetTerminology()
        assert entry.startswith("Segmentation category and type - 3D Slicer General Anatomy list~SCT^123037004^")


def test_attention_volumes_are_images_in_place(run):
    attention = Volume.from_sitk(sitk.ReadImage(str(run.out / "scan3" / "scan3_attention_level2.nrrd")))
    assert attention.array.dtype == np.float32
    assert 0 <= attention.array.min() < attention.array.max() <= 1
    center = attention.ijk_to_world @ [*(np.array(attention.size) - 1) / 2, 1]
    inside = np.linalg.inv(run.scan.ijk_to_world) @ center
    assert all(0 < n < size for n, size in zip(inside, run.scan.size, strict=False))


def test_table_has_the_volume_of_each_label(run):
    with open(run.out / "scan3" / "scan3_volumes.csv", encoding="utf-8", newline="") as file:
        rows = {row["organ"]: row for row in csv.DictReader(file)}
    labels = readLabels(run.out / "scan3" / "scan3.seg.nrrd")
    for value, name in enumerate(("pancreas", "spleen", "right kidney", "left kidney"), 1):
        volume = (labels.array == value).sum() * labels.voxel_volume_ml
        assert float(rows[name]["volume_ml"]) == pytest.approx(volume, abs=1e-3)


def test_wrong_arguments_end_with_2():
    process = subprocess.run([sys.executable, SCRIPT, "scan.nii.gz"], capture_output=True, text=True)
    assert process.returncode == 2
    assert "--out" in process.stderr
    assert "Traceback" not in process.stderr


def test_help_ends_with_0(script, capsys):
    assert script.main(["--help"]) == 0
    assert "--attention" in capsys.readouterr().out


@pytest.mark.parametrize("separator", [[], ["--"]], ids=["from Slicer", "plain Python"])
def test_separator_before_the_arguments_may_be_there_or_not(script, separator):
    options = script.parseArguments([*separator, "a.nii", "b.nii", "--out", "x"])
    assert (options.scans, options.out, options.attention) == (["a.nii", "b.nii"], "x", "none")


def test_missing_model_is_said_once_and_ends_with_1(script, scene, capsys, tmp_path):
    arguments = ["a.nii", "b.nii", "--out", str(tmp_path), "--model", str(tmp_path / "none.safetensors")]
    assert script.main(arguments) == 1
    assert capsys.readouterr().err == f"{tmp_path / 'none.safetensors'}: no such model file.\n"


def test_unknown_device_is_said_once_and_ends_with_1(script, scene, capsys, tmp_path, tinyBundle):
    assert script.main(["a.nii", "--out", str(tmp_path), "--model", str(tinyBundle), "--device", "abacus"]) == 1
    assert capsys.readouterr().err.startswith("Device 'abacus' is not known")


def test_sheared_scan_is_made_upright_as_on_the_command_line(script, scene, tmp_path, tinyBundle):
    nibabel = pytest.importorskip("nibabel")
    scan = makeScan()
    matrix = scan.ijk_to_world.copy()
    matrix[1, 2] = 0.8  # a tilted gantry
    image = nibabel.Nifti1Image(scan.array.transpose(2, 1, 0), np.diag([-1, -1, 1, 1]) @ matrix)
    nibabel.save(image, tmp_path / "tilted.nii.gz")
    shared = [str(tmp_path / "tilted.nii.gz"), "--model", str(tinyBundle), "--device", "cpu", "--out"]
    assert script.main([*shared, str(tmp_path / "batch")]) == 0
    assert cli.main(["segment", *shared, str(tmp_path / "cli")]) == 0
    found = readLabels(tmp_path / "batch" / "tilted" / "tilted.seg.nrrd")
    expected = readLabels(tmp_path / "cli" / "tilted" / "tilted_labels.nii.gz")
    np.testing.assert_array_equal(found.array, expected.array)
    assert found.same_grid(readLabels(tmp_path / "batch" / "tilted" / "tilted_ct.nii.gz"))


def test_results_are_replaced_only_on_request(script, scene, capsys, tmp_path, tinyBundle):
    write_volume(makeScan(), tmp_path / "ct.nii.gz")
    arguments = [str(tmp_path / "ct.nii.gz"), "--out", str(tmp_path / "out"), "--model", str(tinyBundle)]
    assert script.main([*arguments, "--device", "cpu"]) == 0
    result = tmp_path / "out" / "ct" / "ct.seg.nrrd"
    first = result.stat()
    capsys.readouterr()
    assert script.main([*arguments, "--device", "cpu"]) == 1
    assert "--overwrite" in capsys.readouterr().out
    assert result.stat().st_mtime_ns == first.st_mtime_ns
    assert script.main([*arguments, "--device", "cpu", "--overwrite"]) == 0
    assert result.stat().st_mtime_ns > first.st_mtime_ns


@pytest.mark.parametrize("overwrite", [[], ["--overwrite"]])
def test_input_folder_is_never_the_result_folder(script, scene, capsys, tmp_path, tinyBundle, overwrite):
    folder = writeDicom(tmp_path / "data" / "p1", makeScan())
    for name in ("p1_ct.nii.gz", "p1_labels.nii.gz", "p1_volumes.csv"):
        (folder / name).write_text("mine")
    before = {path: path.read_bytes() for path in folder.iterdir()}
    assert script.main([str(folder), "--out", str(tmp_path / "data"), "--model", str(tinyBundle), *overwrite]) == 1
    errors = capsys.readouterr().err
    assert "belongs to the input" in errors and "--overwrite" not in errors
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_class_too_never_writes_into_the_input_folder(scene, tmp_path, tinyBundle):
    folder = writeDicom(tmp_path / "data" / "p1", makeScan())
    batch = BatchSegmentation(tmp_path / "data", ProcessingOptions(modelPath=tinyBundle), overwrite=True)
    with pytest.raises(InputError, match="belongs to the input"):
        batch.run(Case("p1", folder))
    assert all(path.suffix == ".dcm" for path in folder.iterdir())


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder in which even root cannot write")
def test_output_folder_that_cannot_be_written_is_said_once(script, scene, capsys, tmp_path, tinyBundle):
    write_volume(makeScan(), tmp_path / "ct.nii.gz")
    assert script.main([str(tmp_path / "ct.nii.gz"), "--out", "/proc", "--model", str(tinyBundle)]) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("/proc: cannot hold the results") and captured.err.count("\n") == 1
    assert captured.out == ""


def test_scan_may_follow_attention(script, tmp_path):
    (tmp_path / "ct.nii").write_text("voxels")
    options = script.parseArguments(["--attention", str(tmp_path / "ct.nii"), "--out", "x"])
    assert (options.scans, options.attention) == ([str(tmp_path / "ct.nii")], "levels")
    options = script.parseArguments(["--attention", "gates", str(tmp_path / "ct.nii"), "--out", "x"])
    assert (options.scans, options.attention) == ([str(tmp_path / "ct.nii")], "gates")


def test_home_folder_is_meant_in_paths(script, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    options = script.parseArguments(["a.nii", "--out=~/results", "--model=~/a.safetensors"])
    assert (Path(options.out), Path(options.model)) == (tmp_path / "results", tmp_path / "a.safetensors")


def test_scene_is_left_as_it_was(script, scene, addCT, tmp_path, tinyBundle):
    addCT(name="mine")
    before = [scene.GetNthNode(n).GetID() for n in range(scene.GetNumberOfNodes())]
    write_volume(makeScan(), tmp_path / "ct.nii.gz")
    arguments = [str(tmp_path / "ct.nii.gz"), "--out", str(tmp_path / "out"), "--model", str(tinyBundle), "--attention"]
    assert script.main(arguments) == 0
    assert [scene.GetNthNode(n).GetID() for n in range(scene.GetNumberOfNodes())] == before


def test_unexpected_error_fails_the_scan_with_a_traceback(script, scene, capsys, tmp_path, tinyBundle, monkeypatch):
    from AttentionSegmentationLib.Segmentation import BatchSegmentation

    def fail(node, path):
        raise RuntimeError("out of paper")

    monkeypatch.setattr(BatchSegmentation, "saveNode", fail)
    write_volume(makeScan(), tmp_path / "ct.nii.gz")
    arguments = [str(tmp_path / "ct.nii.gz"), "--out", str(tmp_path / "out"), "--model", str(tinyBundle)]
    assert script.main(arguments) == 1
    captured = capsys.readouterr()
    assert "  ct: RuntimeError: out of paper" in captured.out
    assert "Traceback" in captured.err
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for a single process")
def test_interrupt_ends_with_130_and_leaves_no_files(tmp_path, tinyBundle):
    scan = makeScan()
    large = Volume(np.tile(scan.array, (4, 4, 4)), scan.ijk_to_world)
    write_volume(large, tmp_path / "ct.nrrd")
    arguments = [tmp_path / "ct.nrrd", "--out", tmp_path / "out", "--model", tinyBundle, "--device", "cpu", "--mirror"]
    process = subprocess.Popen(
        [sys.executable, SCRIPT, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr.readline() == "[1/1] ct: started\n"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "Interrupted" in errors
    assert list((tmp_path / "out").glob("*")) == []


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_terminal_shows_a_bar(script, monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    with script.progressOf("[1/2] ct") as progress:
        time.sleep(0.15)  # a bar is not drawn more often
        progress(0.5, "Segmenting")
    assert "[1/2] ct  50%|" in sys.stderr.getvalue()


class Application:
    """What `slicer.util.exit` calls of the application (Slicer itself is not at hand here)."""

    def __init__(self):
        self.options = SimpleNamespace(runPythonAndExit=True)
        self.codes = []

    def commandOptions(self):
        return self.options

    def exit(self, code):
        self.codes.append(code)


@pytest.mark.parametrize("code", [0, 1, 2])
def test_in_slicer_the_application_is_ended_with_the_code(script, monkeypatch, code):
    application = Application()
    monkeypatch.setattr(slicer, "app", application, raising=False)
    script.exitProgram(code)
    assert application.codes == [code]
    assert application.options.runPythonAndExit is False


def test_script_is_ascii_because_slicer_reads_it_in_the_systems_encoding():
    assert SCRIPT.read_bytes().isascii()
