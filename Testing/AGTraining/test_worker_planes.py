"""Clips and live frames in real workers, spoken to through their pipes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch

from AGTraining import bundle
from AGTraining.exchange_planes import (
    load_clip_result,
    load_plane_result,
    save_frame,
    save_plane_options,
)
from AGTraining.imaging.frame_rule import FrameRule
from AGTraining.imaging.frames import open_frames
from AGTraining.inference.plane_result import PlaneOptions
from AGTraining.inference.planes import PlaneDetector, analyse_clip
from AGTraining.networks import AGSononet
from Testing.AGTraining.inference.synthetic import threshold_bundle
from Testing.AGTraining.inference.synthetic_planes import (
    CLASSES,
    LARGE,
    MIDDLE,
    SMALL,
    frame,
    save_blobs,
    write_clip,
)
from Testing.AGTraining.worker_process import WorkerProcess

CPU = PlaneOptions(device="cpu")
# What a cancellation may take, on a machine that does other things too.
AT_ONCE_SECONDS = 1.0


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_blobs(tmp_path_factory.mktemp("my modèls") / "blobs.safetensors")


@pytest.fixture(scope="module")
def slow_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that takes some hundredths of a second a frame."""
    arguments = {"num_classes": 3, "features": 16}
    info = bundle.PlanesInfo(
        name="slow",
        network="AGSononet",
        arguments=arguments,
        frame=FrameRule(crop="centre"),
        classes=[bundle.PlaneClass(name=name) for name in CLASSES],
        licence="CC0-1.0",
    )
    path = tmp_path_factory.mktemp("models") / "slow.safetensors"
    bundle.save(path, AGSononet(**arguments), info)
    return path


@pytest.fixture(scope="module")
def worker() -> Iterator[WorkerProcess]:
    """A worker that many tests talk to: what one leaves must not trouble the next."""
    with WorkerProcess() as process:
        yield process


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clips") / "Müller clip.mha"
    return write_clip(path, [frame(rectangle) for rectangle in (MIDDLE, SMALL, LARGE, SMALL)])


@pytest.fixture(scope="module")
def long_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clips") / "long.mha", [frame(SMALL)] * 400)


def frame_request(identifier: str, image: np.ndarray, model: Path | None, **options: Any) -> dict[str, Any]:
    return {
        "request": "frame",
        "id": identifier,
        "frame": save_frame(image),
        "model": None if model is None else str(model),
        "options": save_plane_options(PlaneOptions(device="cpu", **options)),
    }


def clip_request(identifier: str, folder: Path, file: Path, model: Path | None, **options: Any) -> dict[str, Any]:
    return {
        "request": "planes",
        "id": identifier,
        "folder": str(folder),
        "file": str(file),
        "model": None if model is None else str(model),
        "options": {"device": "cpu", **options},
    }


def ends(worker: WorkerProcess, count: int) -> dict[str, dict[str, Any]]:
    """The next so many ends of requests, by id; each request may have one."""
    found: dict[str, dict[str, Any]] = {}
    while len(found) < count:
        event = worker.event()
        if event["event"] in ("result", "error", "cancelled"):
            assert event["id"] not in found, event
            found[event["id"]] = event
    return found


def test_live_frame_is_detected_as_in_this_process(worker: WorkerProcess, model: Path) -> None:
    document = worker.ask(frame_request("f1", frame(SMALL), model, attention=True))["result"]

    result = load_plane_result(document)
    expected = PlaneDetector(bundle.load_planes(model), PlaneOptions("cpu", attention=True)).detect(frame(SMALL))
    assert (result.plane, result.box, result.crop) == (expected.plane, expected.box, expected.crop)
    np.testing.assert_allclose(result.probabilities, expected.probabilities, atol=1e-5)
    assert result.attention is not None and expected.attention is not None
    for name, values in expected.attention.items():
        np.testing.assert_allclose(result.attention[name], values, atol=1e-5)
    assert (document["classes"], document["background"]) == (list(CLASSES), "Background")


def test_no_maps_travel_unless_asked_for(worker: WorkerProcess, model: Path) -> None:
    assert worker.ask(frame_request("f2", frame(SMALL), model))["result"]["attention"] is None


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_types_of_live_frames(worker: WorkerProcess, model: Path, dtype: str) -> None:
    result = worker.ask(frame_request("t" + dtype, frame(LARGE).astype(dtype) * 100, model))["result"]
    assert result["plane"] == "Large"


def test_latest_frame_wins_while_pytorch_is_imported(model: Path) -> None:
    with WorkerProcess() as worker:
        for number, rectangle in enumerate((SMALL, SMALL, MIDDLE, LARGE)):
            worker.send(frame_request(str(number), frame(rectangle), model))
        found = ends(worker, 4)

    superseded = {"event": "cancelled", "superseded": True}
    assert found["1"] == {**superseded, "id": "1"} and found["2"] == {**superseded, "id": "2"}
    assert (found["0"]["result"]["plane"], found["3"]["result"]["plane"]) == ("Small", "Large")
    # Superseded frames end at once, not when their turn would have come.
    assert list(found) == ["1", "2", "0", "3"]


def test_each_frame_of_a_flood_has_one_end_and_the_last_one_its_result(worker: WorkerProcess, slow_model: Path) -> None:
    worker.ask(frame_request("warm", frame(SMALL), slow_model))
    for number in range(60):
        worker.send(frame_request(f"flood{number}", frame(SMALL), slow_model))
    found = ends(worker, 60)

    results = [key for key, event in found.items() if event["event"] == "result"]
    assert results[-1] == "flood59"
    assert results == sorted(results, key=lambda key: int(key[5:]))
    others = [event for event in found.values() if event["event"] != "result"]
    assert others and all(event.get("superseded") for event in others)


def test_frame_that_waits_can_be_cancelled(worker: WorkerProcess, slow_model: Path) -> None:
    for name in ("works", "waits"):
        worker.send(frame_request(name, frame(SMALL), slow_model))
    worker.send({"request": "cancel", "id": "c", "target": "waits"})
    found = ends(worker, 2)

    # It may have had its turn already.
    assert found["waits"] in ({"event": "cancelled", "id": "waits"}, found["waits"] | {"event": "result"})
    assert found["works"]["event"] == "result"


def test_cancelling_the_first_frame_while_pytorch_is_imported_gives_the_turn_to_the_next(model: Path) -> None:
    with WorkerProcess() as worker:
        worker.send(frame_request("first", frame(SMALL), model))
        worker.send(frame_request("second", frame(LARGE), model))
        worker.send({"request": "cancel", "id": "c", "target": "first"})
        found = ends(worker, 2)

    assert found["first"] == {"event": "cancelled", "id": "first"}
    assert found["second"]["result"]["plane"] == "Large"
    assert list(found) == ["first", "second"]


def test_cancelling_the_frame_that_waits_while_pytorch_is_imported_leaves_the_first(model: Path) -> None:
    with WorkerProcess() as worker:
        worker.send(frame_request("first", frame(SMALL), model))
        worker.send(frame_request("second", frame(LARGE), model))
        worker.send({"request": "cancel", "id": "c", "target": "second"})
        found = ends(worker, 2)

    assert list(found) == ["second", "first"]
    assert found["second"] == {"event": "cancelled", "id": "second"}
    assert found["first"]["result"]["plane"] == "Small"


def test_frames_and_other_requests_do_not_mix(
    worker: WorkerProcess, slow_model: Path, long_clip: Path, tmp_path: Path
) -> None:
    worker.send(clip_request("clip", tmp_path, long_clip, slow_model))
    worker.until("progress", id="clip")
    busy = worker.ask(frame_request("frame", frame(SMALL), slow_model), "error")
    worker.send({"request": "cancel", "id": "c", "target": "clip"})
    worker.until("cancelled", id="clip")

    assert busy["code"] == "busy"
    assert worker.ask(frame_request("after", frame(SMALL), slow_model))["event"] == "result"


def test_broken_frame_is_told_and_the_next_one_is_detected(worker: WorkerProcess, model: Path) -> None:
    request = frame_request("broken", frame(SMALL), model)
    request["frame"]["shape"] = [3, 3]

    error = worker.ask(request, "error")

    assert (error["code"], "frame that was handed over" in error["message"]) == ("request", True)
    assert worker.ask(frame_request("whole", frame(SMALL), model))["result"]["plane"] == "Small"


def test_blank_frame_has_a_sentence(worker: WorkerProcess, model: Path) -> None:
    result = worker.ask(frame_request("blank", np.zeros((50, 60), np.uint8), model))["result"]
    assert (result["plane"], result["is_blank"]) == ("Background", True)
    assert "one gray value" in result["message"]


def test_model_for_organs_is_refused(worker: WorkerProcess, tmp_path: Path) -> None:
    organs = threshold_bundle()
    bundle.save(tmp_path / "organs.safetensors", organs.network, organs.info)

    error = worker.ask(frame_request("organs", frame(SMALL), tmp_path / "organs.safetensors"), "error")

    assert error["code"] == "model"
    assert "organs.safetensors" in error["message"]


def test_model_is_loaded_once_for_a_stream(model: Path) -> None:
    stages = []
    with WorkerProcess() as worker:
        for number in range(3):
            worker.send(frame_request(str(number), frame(SMALL), model))
            while (event := worker.event())["event"] != "result":
                stages.append(event.get("stage"))
    assert stages.count("Loading the model") == 1


def test_stream_of_frames_does_not_fill_the_memory(worker: WorkerProcess, model: Path) -> None:
    image = np.kron(frame(SMALL), np.ones((4, 4), np.uint8))
    process = psutil.Process(worker.process.pid)

    def stream(count: int) -> int:
        for number in range(count):
            worker.send(frame_request(f"m{number}", image, model))
        ends(worker, count)
        return process.memory_info().rss

    before = stream(60)
    # 200 frames are 65 MB, and more in base64.
    assert stream(200) - before < 20e6


def test_clip_is_analysed_as_in_this_process(worker: WorkerProcess, model: Path, clip: Path, tmp_path: Path) -> None:
    result = load_clip_result(worker.ask(clip_request("1", tmp_path, clip, model))["result"], tmp_path)

    with open_frames(clip) as sequence:
        expected = analyse_clip(sequence, PlaneDetector(bundle.load_planes(model), CPU))
    assert [f.result.plane for f in result.frames] == ["Background", "Small", "Large", "Small"]
    assert [f.result.box for f in result.frames] == [f.result.box for f in expected.frames]
    assert (result.name, result.messages) == ("Müller clip.mha", expected.messages)
    assert {plane: f.index for plane, f in result.best_frames().items()} == {"Small": 1, "Large": 2}


def test_progress_of_a_clip_rises(model: Path, long_clip: Path, tmp_path: Path) -> None:
    with WorkerProcess() as worker:
        worker.send(clip_request("1", tmp_path, long_clip, model))
        events = []
        while (event := worker.event())["event"] != "result":
            events.append(event)
    progress = [event for event in events if event["event"] == "progress"]
    fractions = [event["fraction"] for event in progress]
    assert fractions == sorted(fractions) and fractions[-1] <= 1
    stages = [event["stage"].partition(" (")[0] for event in progress]
    assert list(dict.fromkeys(stages)) == [
        "Starting PyTorch", "Loading the model", "Detecting planes", "Handing over the result",
    ]  # fmt: skip


def test_clip_is_cancelled_between_batches(
    worker: WorkerProcess, slow_model: Path, long_clip: Path, tmp_path: Path
) -> None:
    worker.send(clip_request("long", tmp_path, long_clip, slow_model, batch=4))
    while "Detecting" not in worker.until("progress", id="long")["stage"]:
        pass
    start = time.monotonic()
    worker.send({"request": "cancel", "id": "c", "target": "long"})

    worker.until("cancelled", id="long")
    assert time.monotonic() - start < AT_ONCE_SECONDS
    assert not list(tmp_path.iterdir())


def test_closed_stdin_ends_a_clip(slow_model: Path, long_clip: Path, tmp_path: Path) -> None:
    with WorkerProcess() as worker:
        worker.send(clip_request("1", tmp_path, long_clip, slow_model))
        while "Detecting" not in worker.until("progress")["stage"]:
            pass
        assert worker.close_input() < AT_ONCE_SECONDS
    assert worker.log == b""


def test_clip_that_breaks_off_is_a_result_with_a_sentence(
    worker: WorkerProcess, model: Path, clip: Path, tmp_path: Path
) -> None:
    cut = tmp_path / "cut.mha"
    cut.write_bytes(clip.read_bytes()[:-20000])

    result = load_clip_result(worker.ask(clip_request("cut", tmp_path, cut, model))["result"], tmp_path)

    assert len(result.frames) == 3 and not result.is_complete
    assert any("cut.mha: the file is cut off after 3 of 4 frames" in message for message in result.messages)


@pytest.mark.parametrize(
    "fields", [{"folder": None}, {"file": None}, {"file": 3}, {"options": {"batch": "all"}}], ids=str
)
def test_request_of_another_shape_is_told(
    worker: WorkerProcess, model: Path, clip: Path, tmp_path: Path, fields: dict[str, Any]
) -> None:
    error = worker.ask(clip_request("shape", tmp_path, clip, model) | fields, "error")
    assert error["code"] == "request"


def test_missing_clip_is_told(worker: WorkerProcess, model: Path, tmp_path: Path) -> None:
    error = worker.ask(clip_request("gone", tmp_path, tmp_path / "no clip.mha", model), "error")
    assert (error["code"], "no clip.mha: no such file" in error["message"]) == ("input", True)


def test_describe_takes_a_model_of_planes(worker: WorkerProcess, model: Path) -> None:
    document = worker.ask({"request": "describe", "id": "d", "model": str(model)})["result"]
    assert document["torch"] == torch.__version__
    assert {device["largest_tile"] for device in document["devices"]} == {None}
