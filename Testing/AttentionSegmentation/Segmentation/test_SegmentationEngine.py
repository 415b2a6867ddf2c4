"""The engines: in this process, and through a client that the test answers for."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from AttentionSegmentationLib import TemporaryFolder
from AttentionSegmentationLib.Segmentation import SegmentationEngine as SegmentationEngineFile
from AttentionSegmentationLib.Segmentation.ProcessingOptions import ProcessingOptions
from AttentionSegmentationLib.Segmentation.SegmentationEngine import EngineCallbacks, InProcessEngine, WorkerEngine
from AttentionSegmentationLib.WorkerError import WorkerError

from AGTraining.errors import BundleError, Cancelled, DeviceError, InputError
from AGTraining.exchange import load_volume, save_result
from AGTraining.imaging.volume import Volume


class HeldClient:
    """A WorkerClient without a process: the test answers."""

    def __init__(self):
        self.request = None
        self.log = "said before"
        self.logListeners = []
        self.cancelled = self.shutdowns = 0
        self.whileWaiting = []

    @property
    def isBusy(self):
        return self.request is not None

    def submit(self, request, onProgress, onResult, onError, onCancelled):
        if self.isBusy:
            raise WorkerError("Another run is not finished yet; wait for it or cancel it.", "busy")
        self.request = request
        self._callbacks = SimpleNamespace(progress=onProgress, result=onResult, error=onError, cancelled=onCancelled)
        return "1"

    def cancel(self):
        self.cancelled += 1

    def wait(self, seconds=None):
        if self.whileWaiting:
            self.whileWaiting.pop(0)()
        return not self.isBusy

    def shutdown(self, seconds=2.0):
        self.shutdowns += 1
        if self.isBusy:
            self.answer("cancelled")

    def progress(self, fraction, stage):
        self._callbacks.progress(fraction, stage)

    def answer(self, kind, *arguments):
        self.request = None
        getattr(self._callbacks, kind)(*arguments)


class Record:
    def __init__(self, isCancelled=lambda: False):
        self.calls = []
        self.callbacks = EngineCallbacks(
            lambda fraction, stage: self.calls.append(("progress", fraction, stage)),
            lambda result: self.calls.append(("result", result)),
            lambda error: self.calls.append(("error", error)),
            lambda: self.calls.append(("cancelled",)),
            isCancelled,
        )

    @property
    def kinds(self):
        return [call[0] for call in self.calls]


@pytest.fixture
def volume():
    matrix = np.array([[0, 0, 2.5, -80], [0.7, 0, 0, 11], [0, -0.9, 0, 40], [0, 0, 0, 1]])
    return Volume(np.arange(60, dtype=np.int16).reshape(3, 4, 5), matrix, "CT größe")


@pytest.fixture
def client():
    return HeldClient()


@pytest.fixture
def engine(client):
    return WorkerEngine(client)


@pytest.fixture
def folders(monkeypatch, tmp_path):
    """What is in the system's folder for temporary files."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return lambda: list(tmp_path.iterdir())


def answerWith(client, result):
    """Answers as the worker does: files in the request's folder, and a document."""
    client.answer("result", save_result(result, Path(client.request["folder"])))


def test_request_holds_volume_model_and_options(engine, client, folders, volume, tmp_path):
    options = ProcessingOptions(tmp_path / "m.safetensors", "cuda:0", "gates", (64, 96, 64), True, False, ("spleen",))
    engine.start(volume, options, Record().callbacks)
    request = client.request
    assert request["request"] == "segment"
    assert request["model"] == str(tmp_path / "m.safetensors")
    assert request["options"] == {
        "device": "cuda:0", "attention": "gates", "tile_size": (64, 96, 64), "mirror": True,
        "largest_component": False, "organs": ("spleen",),
    }  # fmt: skip
    found = load_volume(request["volume"], Path(request["folder"]))
    np.testing.assert_array_equal(found.array, volume.array)
    np.testing.assert_array_equal(found.ijk_to_world, volume.ijk_to_world)
    assert found.name == "CT größe"


def test_default_model_is_left_to_the_worker(engine, client, folders, volume):
    engine.start(volume, ProcessingOptions(), Record().callbacks)
    assert client.request["model"] is None


def test_result_is_read_and_its_files_removed(engine, client, folders, volume, makeResult):
    record = Record()
    engine.start(volume, ProcessingOptions(), record.callbacks)
    assert len(folders()) == 1
    client.progress(0.5, "Segmenting")
    expected = makeResult(volume, (volume.array % 3).astype(np.uint8), messages=("noted",))
    answerWith(client, expected)
    assert record.kinds == ["progress", "result"]
    result = record.calls[1][1]
    np.testing.assert_array_equal(result.labels.array, expected.labels.array)
    assert result.labels.same_grid(volume)
    assert (result.organs[0], result.messages) == (expected.organs[0], ("noted",))
    assert folders() == []


@pytest.mark.parametrize(
    ("code", "kind"),
    [("input", InputError), ("model", BundleError), ("device", DeviceError), ("memory", WorkerError)],
)
def test_errors_of_the_worker_are_of_the_class_that_they_would_have_here(engine, client, folders, volume, code, kind):
    record = Record()
    engine.start(volume, ProcessingOptions(), record.callbacks)
    client.answer("error", WorkerError("A sentence.", code, "Traceback"))
    ((_, error),) = record.calls
    assert type(error) is kind and str(error) == "A sentence." and error.code == code
    assert (error if kind is WorkerError else error.__cause__).details == "Traceback"
    assert folders() == []


def test_answer_that_cannot_be_read_is_an_error(engine, client, folders, volume):
    record = Record()
    engine.start(volume, ProcessingOptions(), record.callbacks)
    client.answer("result", {"labels": None})
    assert record.kinds == ["error"]
    assert "is not valid" in str(record.calls[0][1])
    assert folders() == []


@pytest.mark.parametrize(("raised", "code"), [(MemoryError("no room"), "memory"), (ZeroDivisionError("odd"), None)])
def test_answer_that_fails_unforeseen_is_an_end_too(
    engine, client, folders, volume, makeResult, monkeypatch, raised, code
):
    def fail(*arguments):
        raise raised

    monkeypatch.setattr(SegmentationEngineFile, "load_result", fail)
    record = Record()
    engine.start(volume, ProcessingOptions(), record.callbacks)
    answerWith(client, makeResult(volume, np.zeros(volume.array.shape, np.uint8)))
    ((kind, error),) = record.calls
    assert kind == "error"
    assert error is raised if code is None else (error.code == code and "no room" in error.details)
    assert folders() == []
    engine.start(volume, ProcessingOptions(), Record().callbacks)
    assert client.isBusy


def test_cancellation_is_handed_on_and_confirmed(engine, client, folders, volume):
    record = Record()
    engine.start(volume, ProcessingOptions(), record.callbacks)
    engine.cancel()
    assert client.cancelled == 1 and record.calls == []
    client.answer("cancelled")
    assert record.kinds == ["cancelled"]
    assert folders() == []


def test_cancelling_nothing_reaches_nobody(engine, client):
    engine.cancel()
    assert client.cancelled == 0


@pytest.mark.parametrize("when", ["progress", "waiting"])
def test_question_whether_to_cancel_is_asked_on_progress_and_while_waiting(engine, client, folders, volume, when):
    record = Record(isCancelled=lambda: True)
    engine.start(volume, ProcessingOptions(), record.callbacks)
    if when == "progress":
        client.progress(0.1, "Segmenting")
    else:
        client.whileWaiting = [lambda: None, lambda: client.answer("cancelled")]
        engine.wait()
        assert record.kinds == ["cancelled"]
    assert client.cancelled == 1
    assert ("progress", 0.1, "Segmenting") not in record.calls


def test_waiting_ends_with_the_run(engine, client, folders, volume):
    record = Record()
    engine.start(volume, ProcessingOptions(), record.callbacks)
    client.whileWaiting = [lambda: None, lambda: client.answer("error", WorkerError("It died.", "died"))]
    engine.wait()
    assert record.kinds == ["error"]


def test_waiting_ends_with_its_time(engine, client, folders, volume):
    engine.start(volume, ProcessingOptions(), Record().callbacks)
    engine.wait(0.01)
    assert client.isBusy


def test_run_that_follows_a_cancelled_one_waits_for_its_end(engine, client, folders, volume):
    first, second = Record(), Record()
    engine.start(volume, ProcessingOptions(device="cpu"), first.callbacks)
    engine.cancel()
    engine.start(volume, ProcessingOptions(device="cuda"), second.callbacks)
    assert client.request["options"]["device"] == "cpu"
    client.answer("cancelled")
    assert first.kinds == ["cancelled"] and second.kinds == []
    assert client.request["options"]["device"] == "cuda"
    assert len(folders()) == 1
    client.answer("cancelled")
    assert second.kinds == ["cancelled"] and folders() == []


def test_run_that_waits_for_the_end_of_another_can_be_cancelled(engine, client, folders, volume):
    first, second = Record(), Record()
    engine.start(volume, ProcessingOptions(), first.callbacks)
    engine.cancel()
    engine.start(volume, ProcessingOptions(), second.callbacks)
    engine.cancel()
    assert second.kinds == ["cancelled"] and len(folders()) == 1
    client.answer("cancelled")
    assert first.kinds == ["cancelled"] and folders() == [] and not client.isBusy


def test_only_one_run_waits(engine, client, folders, volume):
    engine.start(volume, ProcessingOptions(), Record().callbacks)
    with pytest.raises(WorkerError, match="not finished yet"):
        engine.start(volume, ProcessingOptions(), Record().callbacks)
    engine.cancel()
    engine.start(volume, ProcessingOptions(), Record().callbacks)
    with pytest.raises(WorkerError, match="not finished yet"):
        engine.start(volume, ProcessingOptions(), Record().callbacks)
    assert len(folders()) == 2


def test_waiting_is_for_the_run_that_waits_too(engine, client, folders, volume):
    second = Record()
    engine.start(volume, ProcessingOptions(), Record().callbacks)
    engine.cancel()
    engine.start(volume, ProcessingOptions(), second.callbacks)
    client.whileWaiting = [lambda: client.answer("cancelled"), lambda: client.answer("cancelled")]
    engine.wait()
    assert second.kinds == ["cancelled"]


def test_next_run_may_start_when_one_ends(engine, client, folders, volume):
    second = Record()
    first = EngineCallbacks(
        lambda *_: None,
        lambda _result: None,
        lambda _error: engine.start(volume, ProcessingOptions(), second.callbacks),
        lambda: None,
    )
    engine.start(volume, ProcessingOptions(), first)
    client.answer("error", WorkerError("x", "died"))
    assert client.isBusy and len(folders()) == 1
    client.answer("cancelled")
    assert second.kinds == ["cancelled"] and folders() == []


def test_busy_worker_is_an_error_at_the_start_without_files_left(engine, client, folders, volume):
    client.submit({"request": "other"}, *[lambda *_: None] * 4)
    with pytest.raises(WorkerError) as caught:
        engine.start(volume, ProcessingOptions(), Record().callbacks)
    assert caught.value.code == "busy"
    assert folders() == []


def test_invalid_options_are_refused_before_anything_is_written(engine, client, folders, volume):
    with pytest.raises(InputError, match="No organ"):
        engine.start(volume, ProcessingOptions(organs=()), Record().callbacks)
    assert folders() == [] and not client.isBusy


def test_full_disk_is_an_error_at_the_start(engine, client, folders, volume, monkeypatch):
    monkeypatch.setattr(TemporaryFolder.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 10, 0))
    with pytest.raises(WorkerError, match="free space") as caught:
        engine.start(volume, ProcessingOptions(), Record().callbacks)
    assert caught.value.code == "disk"
    assert folders() == [] and not client.isBusy


def test_missing_temporary_folder_is_an_error_at_the_start(engine, client, volume, monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(WorkerError) as caught:
        engine.start(volume, ProcessingOptions(), Record().callbacks)
    assert caught.value.code == "disk"
    assert not client.isBusy


def test_shutdown_counts_as_cancelled(engine, client, folders, volume):
    record = Record()
    engine.start(volume, ProcessingOptions(), record.callbacks)
    engine.shutdown()
    assert record.kinds == ["cancelled"] and client.shutdowns == 1
    assert folders() == []


def test_client_is_made_when_it_is_needed():
    engine = WorkerEngine()
    engine.shutdown()
    assert engine._client is None
    assert engine.client.state == "stopped"


def describe(engine, path=None):
    answers = []
    engine.describe(path, lambda document: answers.append(document), lambda error: answers.append(error))
    return answers


def test_description_of_the_devices(engine, client, tmp_path):
    answers = describe(engine, tmp_path / "m.safetensors")
    assert client.request == {"request": "describe", "model": str(tmp_path / "m.safetensors")}
    client.answer("result", {"devices": []})
    assert answers == [{"devices": []}]


@pytest.mark.parametrize("kind", ["result", "error"])
def test_run_that_is_started_meanwhile_waits_for_the_description(engine, client, folders, volume, kind):
    answers, record = describe(engine), Record()
    engine.start(volume, ProcessingOptions(), record.callbacks)
    assert client.request["request"] == "describe"
    client.answer(kind, {} if kind == "result" else WorkerError("x", "package"))
    assert len(answers) == 1
    assert client.request["request"] == "segment"
    client.answer("cancelled")
    assert record.kinds == ["cancelled"]
    engine.start(volume, ProcessingOptions(), Record().callbacks)
    assert client.isBusy


def test_description_that_cannot_be_asked_for_keeps_nobody_waiting(engine, client, folders, volume, monkeypatch):
    def fail(*arguments):
        raise OSError("no pipes")

    with monkeypatch.context() as broken:
        broken.setattr(client, "submit", fail)
        with pytest.raises(OSError, match="no pipes"):
            describe(engine)
    engine.start(volume, ProcessingOptions(), Record().callbacks)
    assert client.request["request"] == "segment"


def test_description_for_what_is_no_path_is_refused(engine, client):
    with pytest.raises(InputError, match="is no path"):
        describe(engine, "")
    assert not client.isBusy
    assert describe(engine) == [] and client.isBusy


def test_asking_again_when_the_description_is_there_does_not_lose_the_run(engine, client, folders, volume):
    errors, record = [], Record()

    def askAgain(_document):
        with pytest.raises(WorkerError) as caught:
            describe(engine)
        errors.append(caught.value.code)

    engine.describe(None, askAgain, errors.append)
    engine.start(volume, ProcessingOptions(), record.callbacks)
    client.answer("result", {})
    assert errors == ["busy"]
    assert client.request["request"] == "segment"
    client.answer("cancelled")
    assert record.kinds == ["cancelled"]


def test_run_that_cannot_begin_after_the_description_is_told(engine, client, folders, volume, monkeypatch):
    answers, record = describe(engine), Record()
    engine.start(volume, ProcessingOptions(), record.callbacks)
    callbacks = client._callbacks

    def fail(*arguments):
        raise OSError("no pipes")

    with monkeypatch.context() as broken:
        broken.setattr(client, "submit", fail)
        client.request = None
        callbacks.result({})
    ((kind, error),) = record.calls
    assert (kind, str(error)) == ("error", "no pipes")
    assert answers == [{}] and folders() == []
    engine.start(volume, ProcessingOptions(), Record().callbacks)
    assert client.isBusy


def test_run_that_waits_for_the_description_can_be_cancelled(engine, client, folders, volume):
    answers, record = describe(engine), Record()
    engine.start(volume, ProcessingOptions(), record.callbacks)
    engine.cancel()
    assert record.kinds == ["cancelled"] and client.cancelled == 0
    assert folders() == []
    client.answer("result", {"devices": []})
    assert len(answers) == 1 and not client.isBusy


def test_shutdown_ends_description_and_waiting_run(engine, client, folders, volume):
    answers, record = describe(engine), Record()
    engine.start(volume, ProcessingOptions(), record.callbacks)
    engine.shutdown()
    assert record.kinds == ["cancelled"]
    assert isinstance(answers[0], Cancelled)
    assert folders() == []


def test_description_while_a_run_is_under_way_is_refused(engine, client, folders, volume):
    engine.start(volume, ProcessingOptions(), Record().callbacks)
    with pytest.raises(WorkerError) as caught:
        describe(engine)
    assert caught.value.code == "busy"
    client.answer("cancelled")
    engine.start(volume, ProcessingOptions(), Record().callbacks)
    assert client.request["request"] == "segment"


def inProcess(makeResult, **arguments):
    def segment(volume, bundle, options, *, progress, is_cancelled):
        if is_cancelled():
            raise Cancelled
        return makeResult(volume, np.zeros(volume.array.shape, np.uint8))

    return InProcessEngine(segment=segment, loadBundle=lambda path: None, **arguments)


def test_in_process_runs_follow_each_other_without_recursion(volume, makeResult):
    """A sequence of a thousand images must not reach Python's limit."""
    engine, count = inProcess(makeResult), 0

    def again(_result):
        nonlocal count
        count += 1
        if count < 1500:
            engine.start(volume, ProcessingOptions(), callbacks)

    callbacks = EngineCallbacks(lambda *_: None, again, lambda error: None, lambda: None)
    engine.start(volume, ProcessingOptions(), callbacks)
    assert count == 1500


def test_in_process_cancellation_is_for_one_run(volume, makeResult):
    engine = inProcess(makeResult)
    engine.cancel()
    record = Record()
    engine.start(volume, ProcessingOptions(), record.callbacks)
    assert record.kinds == ["result"]


def test_in_process_question_whether_to_cancel(volume, makeResult):
    record = Record(isCancelled=lambda: True)
    inProcess(makeResult).start(volume, ProcessingOptions(), record.callbacks)
    assert record.kinds == ["cancelled"]


def test_in_process_unexpected_error_comes_out_and_the_engine_goes_on(volume):
    def segment(*arguments, **keywords):
        raise RuntimeError("out of paper")

    engine = InProcessEngine(segment=segment, loadBundle=lambda path: None)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="out of paper"):
            engine.start(volume, ProcessingOptions(), Record().callbacks)
