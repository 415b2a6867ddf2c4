"""The worker client with the real worker: `python -m AGTraining worker` and a tiny model."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer
from AttentionSegmentationLib.TemporaryFolder import temporaryFolder
from AttentionSegmentationLib.WorkerClient import WorkerClient
from AttentionSegmentationLib.WorkerCommand import workerCommand

from AGTraining.exchange import load_result, save_volume
from AGTraining.imaging.volume import Volume
from Testing.AttentionSegmentation.workers import Record, isGone, run, transports, waitUntil


@pytest.fixture(scope="module", params=["subprocess", "qt"])
def client(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerClient]:
    """One client for all tests: importing PyTorch takes seconds. As in Slicer, Qt's goes through a launcher."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        if request.param == "qt":
            if os.name == "nt":
                pytest.skip("the stand-in for Slicer's launcher is a script")
            launcher = tmp_path_factory.mktemp("Slicer größer 5") / "PythonSlicer"
            launcher.write_text(f'#!/bin/sh\n"{sys.executable}" "$@"\nexit $?\n', encoding="utf-8")
            launcher.chmod(0o755)
            monkeypatch.setenv("PATH", f"{launcher.parent}{os.pathsep}{os.environ['PATH']}")
        with transports(request.param, tmp_path_factory.mktemp("slicer")):
            made = WorkerClient()
            yield made
            made.shutdown()


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A request's folder, below one whose name has blanks and umlauts."""
    parent = tmp_path / "Temporäre Dateien"
    parent.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(parent))
    with temporaryFolder() as path:
        yield path


@pytest.fixture
def segment(folder: Path, tinyBundle: Path) -> Callable[..., dict[str, Any]]:
    """The request to segment noise of a size in voxels, 2 mm each."""

    def make(size: int = 32) -> dict[str, Any]:
        array = np.random.default_rng(0).integers(-1000, 1500, (size, size, size)).astype(np.int16)
        document = save_volume(Volume(array, np.diag([2.0, 2.0, 2.0, 1.0]), "CT"), folder, "input")
        request = {"request": "segment", "folder": str(folder), "volume": document, "model": str(tinyBundle)}
        return {**request, "options": {"device": "cpu", "tile_size": [32, 32, 32]}}

    return make


def workerId(client: WorkerClient) -> int:
    return int(client.log.rpartition(", process ")[2].partition(")")[0])


def started(client: WorkerClient, request: dict[str, Any], stage: str) -> Record:
    """A request whose last progress report is of this stage."""
    record = Record()
    client.submit(request, *record.callbacks)

    def isThere() -> bool:
        assert client.isBusy, record.errors
        return bool(record.progress) and record.progress[-1][1].startswith(stage)

    waitUntil(isThere, client, 60)
    return record


def test_description_names_versions_and_devices(client):
    document = run(client, {"request": "describe", "model": None}, 60).results[0]
    assert document["torch"].startswith("2.")
    assert document["devices"][0]["device"] == "cpu"


def test_segmentation_comes_back_through_the_folder(client, segment, folder):
    record = run(client, segment(), 60)
    result = load_result(record.results[0], folder)
    assert result.labels.array.shape == (32, 32, 32)
    assert record.progress[-1][0] > 0.9


def test_error_of_the_worker_names_what_is_wrong(client, segment, tmp_path):
    record = run(client, {**segment(), "model": str(tmp_path / "no such model.safetensors")}, 60)
    assert record.errors[0].code == "model"
    assert "no such model.safetensors" in str(record.errors[0])


def test_cancellation_while_computing_keeps_the_worker(client, segment):
    run(client, {"request": "describe", "model": None}, 60)
    process = workerId(client)
    record = started(client, segment(160), "Segmenting")
    began = time.monotonic()
    client.cancel()
    assert client.wait(5)
    assert time.monotonic() - began < 1.0
    assert record.ends == (0, 0, 1)
    assert not isGone(process)


def test_worker_killed_while_computing_is_reported_and_replaced(client, segment):
    record = started(client, segment(160), "Segmenting")
    os.kill(workerId(client), 9 if os.name != "nt" else 15)
    assert client.wait(5)
    assert record.errors[0].code == "died"
    assert client.state == "stopped"


def test_cancellation_while_pytorch_starts_takes_less_than_a_second(client):
    client.shutdown()
    record = started(client, {"request": "describe", "model": None}, "Starting PyTorch")
    began = time.monotonic()
    client.cancel()
    assert client.wait(5)
    assert time.monotonic() - began < 1.0
    assert record.ends == (0, 0, 1)


def test_shutdown_while_pytorch_starts_leaves_no_process(client):
    client.shutdown()
    record = started(client, {"request": "describe", "model": None}, "Starting PyTorch")
    process = workerId(client)
    client.shutdown()
    assert record.ends == (0, 0, 1)
    waitUntil(lambda: isGone(process), seconds=1.0)


def test_idle_worker_ends_by_itself(monkeypatch):
    monkeypatch.setattr(slicer, "app", None, raising=False)
    idle = WorkerClient(commandFactory=lambda: workerCommand(idleSeconds=0.2))
    record = Record()
    idle.submit({"request": "cancel", "target": "none"}, *record.callbacks)
    waitUntil(lambda: "The worker ends itself (idle)" in idle.log, idle)
    idle.shutdown()
