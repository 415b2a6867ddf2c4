"""The worker in real processes, spoken to through their pipes."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from AGTraining import __version__, bundle
from AGTraining.exchange import load_result
from AGTraining.imaging.volume import Volume
from AGTraining.inference.result import SegmentOptions, SegmentResult
from AGTraining.inference.segment import segment
from AGTraining.networks import AttentionUNet
from AGTraining.worker import Worker
from Testing.AGTraining.inference.synthetic import grid_matrix, patient, threshold_bundle
from Testing.AGTraining.worker_process import ROOT, WorkerProcess, segment_request

DESCRIBE = {"request": "describe", "id": "d", "model": None}
# What a closed stdin and a cancelled import may take, on a machine that does other things too.
AT_ONCE_SECONDS = 1.0


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that labels by Hounsfield units, exactly."""
    exact = threshold_bundle(attention_hu=100.0)
    path = tmp_path_factory.mktemp("my modèls") / "thresholds.safetensors"
    bundle.save(path, exact.network, exact.info)
    return path


@pytest.fixture(scope="module")
def slow_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that takes half a minute for a patient, tile after tile."""
    info = threshold_bundle(spacing=1.0).info
    path = tmp_path_factory.mktemp("models") / "slow.safetensors"
    arguments = {"features": [8, 16, 32], "sub_gates": 1}
    network = AttentionUNet(features=(8, 16, 32), sub_gates=1)
    bundle.save(path, network, info.model_copy(update={"name": "slow", "arguments": arguments}))
    return path


@pytest.fixture(scope="module")
def scan() -> Volume:
    return a_scan()


def a_scan(dtype: type = np.int16, tilt: float = 0.0, signs: tuple[int, int, int] = (1, 1, 1)) -> Volume:
    matrix, shape = grid_matrix((0, 1, 2), signs, (5.0, 5.0, 6.0), tilt)
    return patient(matrix, shape, dtype=dtype)


@pytest.fixture(scope="module")
def worker() -> Iterator[WorkerProcess]:
    """A worker that many tests talk to: what one leaves must not trouble the next."""
    with WorkerProcess() as process:
        yield process


def assert_same(result: SegmentResult, expected: SegmentResult) -> None:
    np.testing.assert_array_equal(result.labels.array, expected.labels.array)
    assert result.labels.same_grid(expected.labels, 0.0)
    assert repr(result.organs) == repr(expected.organs)
    assert result.messages == expected.messages
    assert list(result.attention) == list(expected.attention)
    for name, volume in expected.attention.items():
        # Two processes may cut their convolutions otherwise.
        np.testing.assert_allclose(result.attention[name].array, volume.array, atol=1e-5)
        assert result.attention[name].same_grid(volume, 1e-9)


def test_first_event_tells_protocol_and_version_before_torch_is_imported(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('imported')")
    with WorkerProcess(shims=tmp_path) as worker:
        ready = worker.event()

    assert ready == {"event": "ready", "protocol": 1, "version": __version__, "pid": worker.process.pid}


def test_result_is_that_of_segment(worker: WorkerProcess, model: Path, scan: Volume, tmp_path: Path) -> None:
    request = segment_request("1", tmp_path, scan, model, attention="gates", organs=("spleen", "left kidney"))

    result = load_result(worker.ask(request)["result"], tmp_path)

    options = SegmentOptions(device="cpu", attention="gates", organs=("spleen", "left kidney"))
    expected = segment(scan, bundle.load(model), options)
    assert all(organ.found for organ in expected.organs)
    assert set(expected.attention) == {"level2.gate1", "level2.gate2"}
    assert_same(result, expected)


@pytest.mark.parametrize("dtype", ["<f4", "<f8", "<i4", ">i2", ">f4"])
def test_voxel_types(worker: WorkerProcess, model: Path, tmp_path: Path, dtype: str) -> None:
    volume = a_scan(np.dtype(dtype))  # type: ignore[arg-type]

    result = load_result(worker.ask(segment_request("t" + dtype, tmp_path, volume, model))["result"], tmp_path)

    assert_same(result, segment(volume, bundle.load(model), SegmentOptions(device="cpu")))
    assert all(organ.found for organ in result.organs)


def test_unsigned_bytes_are_segmented_with_a_warning(worker: WorkerProcess, model: Path, tmp_path: Path) -> None:
    volume = a_scan()
    volume = volume.with_array(np.clip(volume.array, 0, 255).astype(np.uint8))

    result = load_result(worker.ask(segment_request("u1", tmp_path, volume, model))["result"], tmp_path)

    assert any("between 0 and 255" in message for message in result.messages)


def test_oblique_flipped_grid(worker: WorkerProcess, model: Path, tmp_path: Path) -> None:
    volume = a_scan(tilt=25.0, signs=(-1, 1, -1))

    result = load_result(worker.ask(segment_request("oblique", tmp_path, volume, model))["result"], tmp_path)

    assert result.labels.same_grid(volume, 0.0)
    assert_same(result, segment(volume, bundle.load(model), SegmentOptions(device="cpu")))


def test_organ_that_is_not_there_has_no_statistics(worker: WorkerProcess, model: Path, tmp_path: Path) -> None:
    matrix, shape = grid_matrix((0, 1, 2), (1, 1, 1), (5.0, 5.0, 6.0))
    volume = patient(matrix, shape, organs=("pancreas",))

    event = worker.ask(segment_request("nan", tmp_path, volume, model))

    result = load_result(event["result"], tmp_path)
    assert [organ.label.name for organ in result.organs if organ.found] == ["pancreas"]
    assert event["result"]["organs"][1]["mean_hu"] is None
    assert np.isnan(result.organs[1].mean_hu)


def test_paths_with_blanks_and_other_letters(worker: WorkerProcess, model: Path, scan: Volume, tmp_path: Path) -> None:
    folder = tmp_path / "Ordner für 腹部 CT"
    other = shutil.copy(model, tmp_path / "Modell ä.safetensors")

    result = load_result(worker.ask(segment_request("ü", folder, scan, Path(other)))["result"], folder)

    assert all(organ.found for organ in result.organs)


def test_bundled_model_is_taken_when_none_is_named(worker: WorkerProcess, tmp_path: Path) -> None:
    matrix, shape = grid_matrix((0, 1, 2), (1, 1, 1), (8.0, 8.0, 8.0), extent=0.5)

    result = worker.ask(segment_request("none", tmp_path, patient(matrix, shape), None))["result"]

    names = [organ["label"]["name"] for organ in result["organs"]]
    assert names == [label.name for label in bundle.read_info(bundle.default_path()).output_labels]


def test_progress_rises_and_names_its_stages(model: Path, scan: Volume, tmp_path: Path) -> None:
    with WorkerProcess() as worker:
        worker.send(segment_request("1", tmp_path, scan, model, tile_size=(16, 16, 16)))
        start, events = time.monotonic(), []
        while (event := worker.event())["event"] != "result":
            events.append(event)
        seconds = time.monotonic() - start

    progress = [event for event in events if event["event"] == "progress"]
    fractions, stages = [e["fraction"] for e in progress], [e["stage"].partition(" (")[0] for e in progress]
    assert stages[0] == "Starting PyTorch"
    assert {"Loading the model", "Segmenting", "Restoring the scan's resolution"} < set(stages)
    assert fractions == sorted(fractions) and fractions[0] == 0 and fractions[-1] <= 1
    assert len(progress) <= len(set(stages)) + seconds / 0.1


def test_describe_tells_versions_and_devices(worker: WorkerProcess, model: Path) -> None:
    document = worker.ask(DESCRIBE | {"model": str(model)})["result"]

    assert document["version"] == __version__
    assert document["python"] == ".".join(map(str, sys.version_info[:3]))
    assert document["torch"] == torch.__version__
    assert document["cuda_available"] == torch.cuda.is_available()
    cpu = document["devices"][0]
    assert (cpu["device"], cpu["name"]) == ("cpu", "CPU")
    assert 0 < cpu["free_bytes"] <= cpu["total_bytes"]
    assert cpu["largest_tile"] % 16 == 0 and 64 <= cpu["largest_tile"] <= 512


def test_describe_without_a_model_tells_no_tile(worker: WorkerProcess) -> None:
    assert {device["largest_tile"] for device in worker.ask(DESCRIBE)["result"]["devices"]} == {None}


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (b"hello", "no JSON"),
        (b"\xff\xfe{\x00", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b"[1, 2]", "no request"),
        (b'{"request": 3}', "no request"),
        (b'{"request": "segment"}', "without an id"),
        (b'{"request": "segment", "id": 7}', "without an id"),
    ],
)
def test_line_that_is_no_request_is_answered(worker: WorkerProcess, line: bytes, text: str) -> None:
    worker.send(line)

    error = worker.until("error")
    assert (error["id"], error["code"]) == (None, "request")
    assert text in error["message"]


def test_blank_lines_are_nothing(worker: WorkerProcess) -> None:
    worker.send(b"\n  \r\n")

    assert worker.ask(DESCRIBE)["event"] == "result"


@pytest.mark.parametrize("kind", ["organs", "dance"])
def test_unknown_request_is_told(worker: WorkerProcess, kind: str) -> None:
    error = worker.ask({"request": kind, "id": "x"}, "error")

    assert error["code"] == "request"
    assert f"does not know the request '{kind}'" in error["message"]


@pytest.mark.parametrize(
    "fields",
    [
        {"folder": None},
        {"folder": 3},
        {"model": ["a"]},
        {"volume": None},
        {"volume": {}},
        {"options": {"mirror": "no"}},
    ],
)
def test_request_of_another_shape_is_told(
    worker: WorkerProcess, model: Path, scan: Volume, tmp_path: Path, fields: dict
) -> None:
    error = worker.ask(segment_request("shape", tmp_path, scan, model) | fields, "error")

    assert error["code"] == "request"
    assert "AGTraining/exchange.py" in error["traceback"] or "worker_tasks.py" in error["traceback"]


def test_missing_volume_is_told(worker: WorkerProcess, model: Path, scan: Volume, tmp_path: Path) -> None:
    request = segment_request("gone", tmp_path, scan, model)
    (tmp_path / "volume.npy").unlink()

    error = worker.ask(request, "error")

    assert error["code"] == "input"
    assert "patient: its file" in error["message"]


def test_constant_volume_is_told(worker: WorkerProcess, model: Path, scan: Volume, tmp_path: Path) -> None:
    empty = scan.with_array(np.zeros_like(scan.array))

    error = worker.ask(segment_request("constant", tmp_path, empty, model), "error")

    assert (error["code"], "nothing to segment" in error["message"]) == ("input", True)


def test_missing_model_is_told(worker: WorkerProcess, scan: Volume, tmp_path: Path) -> None:
    error = worker.ask(segment_request("m", tmp_path, scan, tmp_path / "no model.safetensors"), "error")

    assert error["code"] == "model"
    assert "no model.safetensors: no such model file" in error["message"]


def test_model_that_was_altered_since_it_was_used_is_refused(
    worker: WorkerProcess, model: Path, scan: Volume, tmp_path: Path
) -> None:
    path = Path(shutil.copy(model, tmp_path / "altered.safetensors"))
    assert worker.ask(segment_request("good", tmp_path, scan, path))["event"] == "result"
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(0, 0))

    error = worker.ask(segment_request("altered", tmp_path, scan, path), "error")

    assert error["code"] == "model"
    assert "altered after it was made" in error["message"]


def test_unknown_device_is_told(worker: WorkerProcess, model: Path, scan: Volume, tmp_path: Path) -> None:
    request = segment_request("device", tmp_path, scan, model)
    request["options"]["device"] = "cuda:99"

    assert worker.ask(request, "error")["code"] == "device"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
def test_full_disk_is_told(worker: WorkerProcess, model: Path, scan: Volume, tmp_path: Path) -> None:
    request = segment_request("full", tmp_path, scan, model)
    (tmp_path / "labels.npy").symlink_to("/dev/full")

    error = worker.ask(request, "error")

    assert error["code"] == "disk"
    assert "No space left on device" in error["message"]


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="the system does not tell which files are mapped")
@pytest.mark.parametrize("end", ["result", "error", "cancelled"])
def test_files_are_free_once_a_request_has_ended(
    worker: WorkerProcess, model: Path, slow_model: Path, scan: Volume, tmp_path: Path, end: str
) -> None:
    maps = Path(f"/proc/{worker.process.pid}/maps")
    request = segment_request(end, tmp_path, scan, slow_model if end == "cancelled" else model)
    if end == "error":
        request["options"]["device"] = "cuda:99"
    worker.send(request)
    if end == "cancelled":
        worker.until("progress", id=end, stage="Segmenting")
        assert "volume.npy" in maps.read_text(encoding="utf-8")
        worker.send({"request": "cancel", "id": "c", "target": end})

    worker.until(end, id=end)
    assert "volume.npy" not in maps.read_text(encoding="utf-8")


def test_second_request_meanwhile_is_busy_and_the_first_can_be_cancelled(
    worker: WorkerProcess, slow_model: Path, scan: Volume, tmp_path: Path
) -> None:
    worker.send(segment_request("slow", tmp_path, scan, slow_model))
    worker.until("progress", id="slow", stage="Loading the model")

    busy = worker.ask(DESCRIBE, "error")
    worker.send({"request": "cancel", "id": "c1", "target": "another"})
    worker.send({"request": "cancel", "id": "c2", "target": "slow"})

    assert busy["code"] == "busy"
    assert worker.until("cancelled") == {"event": "cancelled", "id": "slow"}
    assert not (tmp_path / "labels.npy").exists()
    assert worker.ask(DESCRIBE)["event"] == "result"


@pytest.mark.parametrize("stage", ["Resampling to the model's grid", "Segmenting"])
def test_cancelled_while_computing(
    worker: WorkerProcess, slow_model: Path, scan: Volume, tmp_path: Path, stage: str
) -> None:
    worker.send(segment_request(stage, tmp_path, scan, slow_model, tile_size=(64, 64, 64)))
    worker.until("progress", id=stage, stage=stage)

    start = time.monotonic()
    worker.send({"request": "cancel", "id": "c", "target": stage})

    worker.until("cancelled", id=stage)
    assert time.monotonic() - start < AT_ONCE_SECONDS


def test_cancelling_what_has_ended_is_nothing(worker: WorkerProcess) -> None:
    worker.ask(DESCRIBE | {"id": "over"})
    worker.send({"request": "cancel", "id": "c", "target": "over"})

    assert worker.ask(DESCRIBE)["event"] == "result"


@pytest.fixture
def stuck_torch(tmp_path: Path) -> Path:
    """A folder whose torch takes a minute to import."""
    (tmp_path / "shims").mkdir()
    (tmp_path / "shims" / "torch.py").write_text("import time\ntime.sleep(60)\n")
    return tmp_path / "shims"


def test_cancelled_and_asked_again_while_torch_is_imported(stuck_torch: Path) -> None:
    with WorkerProcess(shims=stuck_torch) as worker:
        worker.send(DESCRIBE)
        worker.until("progress", id="d", stage="Starting PyTorch")
        time.sleep(0.5)
        start = time.monotonic()
        worker.send({"request": "cancel", "id": "c", "target": "d"})
        worker.until("cancelled", id="d")
        cancelled = time.monotonic() - start
        worker.send(DESCRIBE | {"id": "again"})
        worker.until("progress", id="again", stage="Starting PyTorch")
        worker.send({"request": "cancel", "id": "c", "target": "again"})
        worker.until("cancelled", id="again")

    assert cancelled < AT_ONCE_SECONDS


def test_request_is_served_after_one_was_cancelled_while_torch_was_imported() -> None:
    with WorkerProcess() as worker:
        worker.send(DESCRIBE | {"id": "first"})
        worker.until("progress", id="first")
        worker.send({"request": "cancel", "id": "c", "target": "first"})
        worker.until("cancelled", id="first")

        assert worker.ask(DESCRIBE)["result"]["torch"] == torch.__version__


def test_closed_stdin_ends_an_idle_worker() -> None:
    with WorkerProcess() as worker:
        worker.until("ready")
        seconds = worker.close_input()

        assert worker.event() == {"event": "ended", "reason": "stdin"}
    assert worker.process.returncode == 0
    assert seconds < AT_ONCE_SECONDS


@pytest.mark.parametrize("delay", [0.3, 0.8])
def test_closed_stdin_ends_the_import_of_torch(delay: float) -> None:
    with WorkerProcess() as worker:
        worker.send(DESCRIBE)
        worker.until("progress", stage="Starting PyTorch")
        time.sleep(delay)

        assert worker.close_input() < AT_ONCE_SECONDS


def test_closed_stdin_ends_a_computation(slow_model: Path, scan: Volume, tmp_path: Path) -> None:
    with WorkerProcess() as worker:
        worker.send(segment_request("1", tmp_path, scan, slow_model))
        worker.until("progress", stage="Segmenting")
        time.sleep(0.3)
        seconds = worker.close_input()

        assert worker.event() == {"event": "ended", "reason": "stdin"}
    assert seconds < AT_ONCE_SECONDS
    assert worker.log == b""


def test_closed_stdin_ends_a_worker_whose_events_nobody_reads() -> None:
    with WorkerProcess(read=False) as worker:
        # More answers than a pipe holds.
        for _ in range(500):
            worker.send(b"garbage")
        time.sleep(0.5)

        assert worker.close_input() < AT_ONCE_SECONDS


def test_worker_ends_when_nobody_can_read_its_events() -> None:
    with WorkerProcess(read=False) as worker:
        assert worker.process.stdout is not None
        worker.process.stdout.close()
        worker.send(b"garbage")

        assert worker.process.wait(60) != 0


def test_shutdown_ends_also_a_computation(slow_model: Path, scan: Volume, tmp_path: Path) -> None:
    with WorkerProcess() as worker:
        worker.send(segment_request("1", tmp_path, scan, slow_model))
        worker.until("progress", stage="Segmenting")
        worker.send({"request": "shutdown"})

        assert worker.until("ended")["reason"] == "shutdown"
        assert worker.process.wait(10) == 0


def test_worker_without_requests_ends() -> None:
    with WorkerProcess("--idle-seconds", "0.3") as worker:
        assert worker.until("ended")["reason"] == "idle"
        assert worker.process.wait(10) == 0


def test_request_that_comes_after_the_decision_to_end_is_not_answered() -> None:
    """Its sender gives it to another process; a word about it from this one would say that it is worked on."""

    class Ending(Worker):
        def _end(self, reason: str) -> None:
            if reason == "idle":
                self._handle(json.dumps(DESCRIBE).encode())
                self._emit({"event": "ended", "reason": reason})
                raise SystemExit

    inside, outside = os.pipe()
    output = io.StringIO()
    with os.fdopen(inside, "rb") as requests, os.fdopen(outside, "wb"), pytest.raises(SystemExit):
        Ending(requests, output, 0.01).serve()
    start = time.monotonic()
    while "ended" not in output.getvalue():
        assert time.monotonic() - start < 10
        time.sleep(0.01)

    assert [json.loads(line)["event"] for line in output.getvalue().splitlines()] == ["ready", "ended"]


def test_worker_is_not_idle_while_it_works() -> None:
    with WorkerProcess("--idle-seconds", "0.3") as worker:
        # Importing PyTorch alone takes longer.
        assert worker.ask(DESCRIBE)["event"] == "result"
        assert worker.until("ended")["reason"] == "idle"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends Ctrl+C to whole consoles only")
def test_interrupt_in_the_console_is_left_to_the_client(worker: WorkerProcess) -> None:
    worker.ask(DESCRIBE)
    log = worker.log

    os.kill(worker.process.pid, signal.SIGINT)

    assert worker.ask(DESCRIBE)["event"] == "result"
    assert worker.log == log


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals of this kind")
def test_interrupt_by_a_person_ends_the_worker() -> None:
    import pty

    terminal, inside = pty.openpty()
    command = [sys.executable, "-m", "AGTraining", "worker"]
    with subprocess.Popen(command, stdin=inside, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdout is not None
        process.stdout.readline()
        os.kill(process.pid, signal.SIGINT)
        errors = process.communicate(timeout=10)[1]
    os.close(inside)
    os.close(terminal)

    assert (process.returncode, errors) == (130, b"Interrupted.\n")


def test_what_libraries_print_does_not_garble_events(tmp_path: Path) -> None:
    (tmp_path / "psutil.py").write_text(
        "import os, subprocess, sys\n"
        "print('from Python')\n"
        "os.write(1, b'from C')\n"
        "subprocess.run([sys.executable, '-c', 'print(\"from a child\")'])\n"
        "assert sys.stdin.read() == os.read(0, 9).decode() == ''\n"
        "raise ImportError('after printing')\n"
    )
    with WorkerProcess(shims=tmp_path) as worker:
        error = worker.ask(DESCRIBE, "error")
        worker.close_input()

    assert "after printing" in error["message"]
    for text in (b"from Python", b"from C", b"from a child"):
        assert text in worker.log


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "raise ModuleNotFoundError(\"No module named 'safetensors'\", name='safetensors')",
            "The Python package safetensors is missing; install it",
        ),
        ("import package_of_nobody", "The Python package package_of_nobody is missing; install it"),
        ("raise OSError('[WinError 126] c10.dll')", "The Python package safetensors cannot be loaded ([WinError 126]"),
    ],
    ids=["missing", "needs a missing one", "broken"],
)
def test_package_that_cannot_be_loaded_is_named(tmp_path: Path, source: str, message: str) -> None:
    (tmp_path / "safetensors.py").write_text(source)
    with WorkerProcess(shims=tmp_path) as worker:
        error = worker.ask(DESCRIBE, "error")

    assert error["code"] == "package"
    assert error["message"].startswith(message)
    assert "Traceback" in error["traceback"]


def test_package_that_was_installed_meanwhile_is_found(tmp_path: Path) -> None:
    (tmp_path / "safetensors.py").write_text("raise ModuleNotFoundError('No module', name='safetensors')")
    with WorkerProcess(shims=tmp_path) as worker:
        assert worker.ask(DESCRIBE, "error")["code"] == "package"
        (tmp_path / "safetensors.py").unlink()

        assert worker.ask(DESCRIBE)["result"]["torch"] == torch.__version__
