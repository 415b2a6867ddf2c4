"""`python -m AGTraining planes` as users run it, on real files, with a model that is right by construction."""

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

import numpy as np
import pydicom
import pytest
from matplotlib import image as pictures
from PIL import Image
from pydicom.uid import ExplicitVRLittleEndian, UltrasoundMultiFrameImageStorage, generate_uid

from AGTraining import bundle
from AGTraining.cli import main
from AGTraining.clips import file_names
from AGTraining.imaging.box import Box
from Testing.AGTraining.inference.synthetic import threshold_bundle
from Testing.AGTraining.inference.synthetic_planes import LARGE, MIDDLE, SMALL, frame, save_blobs, write_clip

ROOT = Path(__file__).resolve().parents[2]
CLIP = [frame(rectangle) for rectangle in (MIDDLE, SMALL, (32, 32, 52, 52), LARGE, MIDDLE)]
PLANES = ["Background", "Small", "Small", "Large", "Background"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_blobs(tmp_path_factory.mktemp("model") / "blobs.safetensors")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip in a folder and of a name with blanks and umlauts."""
    return write_clip(tmp_path_factory.mktemp("my clips") / "Müller clip.mha", CLIP)


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "AGTraining", "planes", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", cwd=ROOT, check=False)


def analyze(out: Path, model: Path, *inputs: Path) -> list[dict[str, Any]]:
    """The reports of a run in this process, through files."""
    code = main(["planes", *map(str, inputs), "--model", str(model), "--out", str(out), "--device", "cpu"])
    reports = []
    for path in sorted(out.glob("*/*_summary.json")):
        reports.append(json.loads(path.read_text(encoding="utf-8")))
    whole = [report for report in reports if report["is_complete"]]
    assert code == int(len(whole) < len(inputs))
    return reports


def rows(report: dict[str, Any]) -> list[dict[str, str]]:
    with open(report["files"]["table"], encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def finished(model: Path, clip: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A batch of a good clip, one that is no clip, and a missing one; with --json."""
    folder = tmp_path_factory.mktemp("batch")
    (folder / "notes.mha").write_text("not a clip")
    out = folder / "results"
    result = run(
        folder / "notes.mha", clip, folder / "missing.dcm", "--model", model, "--out", out, "--json", "--attention",
        "--device", "cpu",
    )  # fmt: skip
    assert result.returncode == 1, result.stderr
    assert "Traceback" not in result.stderr
    return out, json.loads(result.stdout)


def test_batch_goes_on_and_reports_each_clip(finished: tuple[Path, dict[str, Any]]) -> None:
    out, document = finished
    by_name = {Path(report["input"]).name: report for report in document["clips"]}
    assert {name: report["status"] for name, report in by_name.items()} == {
        "notes.mha": "failed", "Müller clip.mha": "ok", "missing.dcm": "failed",
    }  # fmt: skip
    assert (document["failed"], document["interrupted"]) == (2, False)
    assert by_name["missing.dcm"]["code"] == by_name["notes.mha"]["code"] == "input"
    assert [path.name for path in out.iterdir()] == ["Müller clip"]


def test_all_files_are_there_and_named(finished: tuple[Path, dict[str, Any]]) -> None:
    out, document = finished
    (report,) = (report for report in document["clips"] if report["status"] == "ok")
    assert {kind: Path(path).name for kind, path in report["files"].items()} == {
        "table": "Müller clip_planes.csv",
        "plot": "Müller clip_planes.png",
        "best.Small": "Müller clip_best_small.png",
        "best.Large": "Müller clip_best_large.png",
        "attention": "Müller clip_attention.npz",
        "summary": "Müller clip_summary.json",
    }
    assert set((out / "Müller clip").iterdir()) == {Path(path) for path in report["files"].values()}
    for kind in ("plot", "best.Small", "best.Large"):
        assert pictures.imread(report["files"][kind]).shape[1] > 400


def test_table_has_a_row_for_each_frame(finished: tuple[Path, dict[str, Any]]) -> None:
    table = rows(json.loads((finished[0] / "Müller clip" / "Müller clip_summary.json").read_text(encoding="utf-8")))
    assert [row["plane"] for row in table] == PLANES
    assert [row["frame"] for row in table] == ["1", "2", "3", "4", "5"]
    assert [row["time_s"] for row in table] == [""] * 5
    box = Box(*(float(table[3][edge]) for edge in ("x0", "y0", "x1", "y1")))
    # The blur is wide: on so small a frame it reaches the edges.
    assert box.centre == pytest.approx(Box(*LARGE).centre, abs=8)
    assert box.iou(Box(*LARGE)) > 0.4
    assert float(table[1]["p(Small)"]) == pytest.approx(float(table[1]["confidence"]))


def test_summary_names_the_best_frame_of_each_plane(finished: tuple[Path, dict[str, Any]]) -> None:
    report = json.loads((finished[0] / "Müller clip" / "Müller clip_summary.json").read_text(encoding="utf-8"))
    assert [(best["plane"], best["frame"]) for best in report["best"]] == [("Small", 2), ("Large", 4)]
    assert report["frames_of_class"] == {"Small": 2, "Large": 1, "Background": 2}
    assert (report["frames"], report["is_complete"], report["model"]["name"]) == (5, True, "blobs")


def test_attention_maps_of_the_best_frames(finished: tuple[Path, dict[str, Any]]) -> None:
    with np.load(finished[0] / "Müller clip" / "Müller clip_attention.npz") as maps:
        shapes = {name: maps[name].shape for name in maps.files}
        peak = np.unravel_index(maps["small.block3"].argmax(), (16, 20))
    blocks = {"block3": (16, 20), "block4": (8, 10)}
    assert shapes == {f"{plane}.{block}": shape for plane in ("small", "large") for block, shape in blocks.items()}
    assert peak == (4, 4)


def test_printed_report_tells_planes_and_failures(
    model: Path, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["planes", str(clip), str(tmp_path / "x.mha"), "--model", str(model), "--out", str(tmp_path)]) == 1
    printed = capsys.readouterr()
    assert "Müller clip: " in printed.out and "(5 frames, " in printed.out
    lines = [line.split() for line in printed.out.splitlines()]
    assert ["Small", "2", "frames", "best:", "frame", "2,", "confidence", "1.00"] in lines
    assert ["Background", "2", "frames"] in lines
    assert "1 of 2 clips analyzed, 1 failed:" in printed.out
    assert "x.mha: no such file" in printed.err


def test_clip_without_planes_is_told_to_have_none(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_clip(tmp_path / "empty.mha", [frame(MIDDLE)] * 3)
    analyze(tmp_path / "out", model, path)
    assert "no standard plane was found" in capsys.readouterr().out


def test_results_are_not_replaced_unless_asked_for(model: Path, clip: Path, tmp_path: Path) -> None:
    arguments = ["planes", str(clip), "--model", str(model), "--out", str(tmp_path)]
    assert main(arguments) == 0
    own = tmp_path / "Müller clip" / "notes.txt"
    own.write_text("mine")
    plot = tmp_path / "Müller clip" / "Müller clip_planes.png"
    before = plot.stat().st_mtime_ns
    assert main(arguments) == 1
    assert plot.stat().st_mtime_ns == before
    assert main([*arguments, "--overwrite"]) == 0
    assert plot.stat().st_mtime_ns != before
    assert own.read_text() == "mine"


def test_attention_before_the_clip_takes_no_value(model: Path, clip: Path, tmp_path: Path) -> None:
    assert main(["planes", "--attention", str(clip), "--model", str(model), "--out", str(tmp_path)]) == 0
    assert (tmp_path / "Müller clip" / "Müller clip_attention.npz").exists()


def test_model_without_attention_is_one_note(clip: Path, tmp_path: Path) -> None:
    plain = save_blobs(tmp_path / "plain.safetensors", with_attention=False)
    (report,) = analyze(tmp_path / "out", plain, clip)
    assert [message for message in report["messages"] if "no attention" in message] == [
        "The model has no attention: there are no boxes and no overlays."
    ]
    assert {row["x0"] for row in rows(report)} == {""}


def test_model_for_organs_is_refused_before_any_work(
    clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    organs = threshold_bundle()
    bundle.save(tmp_path / "organs.safetensors", organs.network, organs.info)
    arguments = ["planes", str(clip), "--model", str(tmp_path / "organs.safetensors"), "--out", str(tmp_path / "out")]
    assert main([*arguments, "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["code"] == "model"
    assert not (tmp_path / "out").exists()


def test_folder_stands_for_the_clips_in_it(model: Path, tmp_path: Path) -> None:
    write_clip(tmp_path / "study" / "a.mha", CLIP[:2])
    write_clip(tmp_path / "study" / "b.nrrd", CLIP[2:])
    for number, image in enumerate(CLIP):
        (tmp_path / "study" / "pictures").mkdir(exist_ok=True)
        Image.fromarray(image).save(tmp_path / "study" / "pictures" / f"{number}.png")
    main(["planes", str(tmp_path / "study"), "--model", str(model), "--out", str(tmp_path / "out")])
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a", "b", "pictures"]


def test_results_of_an_earlier_run_are_no_clips(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_clip(tmp_path / "a.mha", CLIP[:2])
    arguments = ["planes", "--model", str(model), "--out", str(tmp_path / "results"), "--overwrite", str(tmp_path)]
    assert main(arguments) == 0
    assert main(arguments) == 0
    assert [path.name for path in (tmp_path / "results").iterdir()] == ["a"]
    capsys.readouterr()
    assert main([*arguments[:-1], str(tmp_path / "results")]) == 1
    assert "results of an earlier run, but no clips" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends Ctrl+C to whole consoles only")
def test_interrupt_keeps_the_clips_that_are_done(model: Path, clip: Path, tmp_path: Path) -> None:
    long = write_clip(tmp_path / "long.mha", [frame(SMALL)] * 4000)
    out = tmp_path / "out"
    command = [sys.executable, "-m", "AGTraining", "planes", clip, long, "--model", model, "--out", out, "--json"]
    with subprocess.Popen(
        [str(word) for word in command], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8"
    ) as process:
        start = time.monotonic()
        while not (out / "Müller clip").exists():
            assert time.monotonic() - start < 60 and process.poll() is None
            time.sleep(0.02)
        time.sleep(0.2)
        os.kill(process.pid, signal.SIGINT)
        document = json.loads(process.communicate(timeout=30)[0])
    assert process.returncode == 130
    assert document["interrupted"] is True
    assert [report["clip"] for report in document["clips"]] == ["Müller clip"]
    assert [path.name for path in out.iterdir()] == ["Müller clip"]


def test_names_of_planes_become_names_of_files() -> None:
    names = file_names(["Brain (Cb.)", "brain cb", "3VV", "Größe/x", "???", "x" * 90])
    assert list(names.values())[:5] == ["brain-cb", "brain-cb-2", "3vv", "größe-x", "plane"]
    assert len(names["x" * 90]) <= 40


# What the acceptance asks of clips that are not as they should be: a sentence, and nothing lost.


def write_dicom(path: Path, frames: np.ndarray, photometric: str, bits: int = 8) -> Path:
    """A multi-frame ultrasound image; frames: (n, rows, columns[, 3])."""
    data = pydicom.Dataset()
    data.file_meta = pydicom.dataset.FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = UltrasoundMultiFrameImageStorage
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = generate_uid()
    data.Modality, data.PhotometricInterpretation = "US", photometric
    data.NumberOfFrames, data.Rows, data.Columns = frames.shape[:3]
    data.SamplesPerPixel = 3 if frames.ndim == 4 else 1
    if frames.ndim == 4:
        data.PlanarConfiguration = 0
    data.BitsAllocated = data.BitsStored = bits
    data.HighBit, data.PixelRepresentation = bits - 1, 0
    data.FrameTime = "40"
    data.PixelData = frames.tobytes()
    data.save_as(path, enforce_file_format=True)
    return path


def test_rgb_clip(model: Path, tmp_path: Path) -> None:
    colored = np.repeat(np.stack(CLIP)[..., None], 3, axis=3)
    (report,) = analyze(tmp_path / "out", model, write_dicom(tmp_path / "rgb.dcm", colored, "RGB"))
    assert [row["plane"] for row in rows(report)] == PLANES
    assert [row["time_s"] for row in rows(report)] == ["0.0000", "0.0400", "0.0800", "0.1200", "0.1600"]


def test_clip_with_an_inverted_palette(model: Path, tmp_path: Path) -> None:
    inverted = 255 - np.stack(CLIP)
    (report,) = analyze(tmp_path / "out", model, write_dicom(tmp_path / "inverted.dcm", inverted, "MONOCHROME1"))
    assert [row["plane"] for row in rows(report)] == PLANES


def test_clip_of_16_bits(model: Path, tmp_path: Path) -> None:
    deep = np.stack(CLIP).astype(np.uint16) * 200
    (report,) = analyze(tmp_path / "out", model, write_dicom(tmp_path / "deep.dcm", deep, "MONOCHROME2", bits=16))
    assert [row["plane"] for row in rows(report)] == PLANES


def test_clip_of_a_single_frame(model: Path, tmp_path: Path) -> None:
    Image.fromarray(CLIP[3]).save(tmp_path / "one.png")
    (report,) = analyze(tmp_path / "out", model, tmp_path / "one.png")
    assert (report["frames"], [best["plane"] for best in report["best"]]) == (1, ["Large"])


def test_clip_without_frames_is_a_sentence(
    model: Path, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = tmp_path / "empty.mha"
    head, _, _ = clip.read_bytes().partition(b"ElementDataFile")
    empty.write_bytes(head.replace(b"DimSize = 160 128 5", b"DimSize = 160 128 0") + b"ElementDataFile = LOCAL\n")
    reports = analyze(tmp_path / "out", model, empty, clip)
    assert [report["clip"] for report in reports] == ["Müller clip"]
    assert "empty.mha: " in capsys.readouterr().err


def test_clip_whose_frames_change_their_size(model: Path, tmp_path: Path) -> None:
    (tmp_path / "sizes").mkdir()
    for number, size in enumerate([(128, 160), (256, 320), (64, 300)]):
        Image.fromarray(frame((32, 32, 48, 48), size=size)).save(tmp_path / "sizes" / f"{number}.png")
    (report,) = analyze(tmp_path / "out", model, tmp_path / "sizes")
    assert [row["plane"] for row in rows(report)][:2] == ["Small", "Small"]
    (message,) = [message for message in report["messages"] if "change their size" in message]
    assert "160 × 128 pixels from frame 1 on, 320 × 256 pixels from frame 2 on" in message


def test_clip_that_is_cut_off_keeps_the_frames_before(model: Path, clip: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.mha"
    cut.write_bytes(clip.read_bytes()[: -128 * 160 - 5])
    (report,) = analyze(tmp_path / "out", model, cut)
    assert [row["plane"] for row in rows(report)] == PLANES[:3]
    assert report["is_complete"] is False
    assert any("cut off after 3 of 5 frames" in message for message in report["messages"])


def test_damaged_picture_in_a_folder_is_left_out(model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number, image in enumerate(CLIP):
        Image.fromarray(image).save(folder / f"{number}.png")
    (folder / "2.png").write_bytes((folder / "2.png").read_bytes()[:60])
    (report,) = analyze(tmp_path / "out", model, folder)
    assert [row["frame"] for row in rows(report)] == ["1", "2", "4", "5"]
    assert any("left out" in message for message in report["messages"])


def test_black_frames_are_background_with_a_sentence(model: Path, tmp_path: Path) -> None:
    path = write_clip(tmp_path / "black.mha", [CLIP[1], np.zeros((128, 160), np.uint8)])
    (report,) = analyze(tmp_path / "out", model, path)
    assert [row["plane"] for row in rows(report)] == ["Small", "Background"]
    assert any(message.startswith("Frame 2: The frame has one gray value only") for message in report["messages"])


@pytest.mark.parametrize(
    "name",
    [
        "BoneUltrasound_L14.igs.mha",
        "ColorNrrdSample.igs.nrrd",
        "IM00001.implicit_little_endian.dcm",
        "NrrdSample.igs.nrrd",
        "OBXXXX1A_2frame.dcm",
        "SpinePhantomFreehand.igs.mha",
        "UltrasonixCurvilinearScanConvertedData.igs.mha",
        "examples_ybr_color.dcm",
    ],
)
def test_real_clips_are_analyzed(model: Path, shared_data: Path, tmp_path: Path, name: str) -> None:
    (report,) = analyze(tmp_path / "out", model, shared_data / "ultrasound" / "sequences" / name)
    assert report["is_complete"] is True
    assert report["frames"] == len(rows(report)) > 0
