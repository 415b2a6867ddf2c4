"""Live frames through the worker client: with scripted workers, over both transports, and with the real one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from AttentionSegmentationLib.WorkerClient import WorkerClient, WorkerError
from AttentionSegmentationLib.WorkerCommand import workerCommand

from AGTraining.exchange_planes import load_plane_result, save_frame
from Testing.AGTraining.inference.synthetic_planes import LARGE, SMALL, frame, save_blobs
from Testing.AttentionSegmentation.workers import Record, isGone, processesBelow, run, scripted, transports, waitUntil

# Answers a frame when its number asks for it: "hold" frames wait for a "go" frame.
HOLDING = """
ready()
held = []
for request in requests():
    if request["request"] == "cancel":
        if request["target"] in held:
            held.remove(request["target"])
            say("cancelled", id=request["target"])
    elif request.get("what") == "hold":
        held.append(request["id"])
        say("progress", id=request["id"], fraction=0, stage="Held")
    else:
        for id in held:
            say("cancelled", id=id, superseded=True)
        held = []
        say("result", id=request["id"], result={"what": request.get("what"), "pid": os.getpid()})
"""


@pytest.fixture(params=["subprocess", "qt"])
def makeClient(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> Iterator[Callable[..., WorkerClient]]:
    """Makes clients of scripted workers; afterwards none of their processes may be left."""
    before = processesBelow()
    clients: list[WorkerClient] = []
    with transports(request.param, tmp_path_factory.mktemp("slicer")) as factory:

        def make(code: str, **keywords: Any) -> WorkerClient:
            clients.append(WorkerClient(factory, scripted(code, folder=tmp_path), **keywords))
            return clients[-1]

        yield make
        for client in clients:
            client.shutdown(seconds=0.3)
        waitUntil(lambda: all(isGone(process) for process in processesBelow() - before))


def submit(client: WorkerClient, what: Any) -> Record:
    record = Record()
    client.submit({"request": "frame", "what": what}, *record.callbacks)
    return record


def readied(client: WorkerClient) -> WorkerClient:
    """A client whose process is there."""
    assert submitAndWait(client, "first").ends == (1, 0, 0)
    return client


def submitAndWait(client: WorkerClient, what: Any) -> Record:
    record = submit(client, what)
    assert client.wait(20), client.log
    return record


def test_frames_may_be_submitted_before_the_first_has_ended(makeClient):
    client = readied(makeClient(HOLDING))
    records = [submit(client, number) for number in range(3)]
    assert client.wait(20)
    assert [record.results[0]["what"] for record in records] == [0, 1, 2]


def test_superseded_frame_ends_as_cancelled(makeClient):
    client = readied(makeClient(HOLDING))
    held = submit(client, "hold")
    latest = submitAndWait(client, "latest")
    assert held.ends == (0, 0, 1)
    assert latest.ends == (1, 0, 0)


def test_of_frames_before_the_worker_is_ready_only_the_newest_is_sent(makeClient):
    client = makeClient("time.sleep(0.5)\n" + HOLDING)
    records = [submit(client, number) for number in range(5)]
    assert [record.ends for record in records] == [(0, 0, 1)] * 4 + [(0, 0, 0)]
    assert client.wait(20)
    assert records[4].results[0]["what"] == 4


def test_frames_that_a_slow_worker_cannot_take_are_superseded_here(makeClient):
    client = readied(makeClient(HOLDING))
    held = [submit(client, "hold") for _ in range(3)]
    waitUntil(lambda: all(record.progress for record in held), client)
    late = [submit(client, f"late {number}") for number in range(4)]
    assert [record.ends for record in late] == [(0, 0, 1)] * 3 + [(0, 0, 0)]
    client.cancel()
    assert client.wait(5)
    assert [record.ends for record in held] == [(0, 0, 1)] * 3


def test_frame_that_was_held_back_is_sent_when_there_is_room(makeClient):
    client = readied(
        makeClient(
            "ready()\nfor n, request in enumerate(requests()):\n    if n:\n        time.sleep(0.1)\n"
            '    say("result", id=request["id"], result={"n": n})\n'
        )
    )
    records = [submit(client, number) for number in range(6)]
    assert client.wait(20)
    assert [record.ends for record in records] == [(1, 0, 0)] * 3 + [(0, 0, 1)] * 2 + [(1, 0, 0)]
    assert records[5].results == [{"n": 4}]


def test_cancellation_ends_all_frames(makeClient):
    client = readied(makeClient(HOLDING))
    records = [submit(client, "hold") for _ in range(5)]
    client.cancel()
    assert client.wait(5)
    assert [record.ends for record in records] == [(0, 0, 1)] * 5
    assert client.state == "idle"


def test_worker_that_ignores_the_cancellation_of_frames_is_ended(makeClient):
    client = readied(
        makeClient(
            'ready()\nfirst = next(requests())\nsay("result", id=first["id"], result={})\n'
            'for request in requests():\n    say("progress", id=request["id"], fraction=0, stage="")\n'
            "    time.sleep(60)\n"
        )
    )
    records = [submit(client, "never") for _ in range(3)]
    waitUntil(lambda: bool(records[0].progress), client)
    client.cancel()
    assert client.wait(5)
    assert [record.ends for record in records] == [(0, 0, 1)] * 3
    assert client.state == "stopped"


def test_frame_is_refused_while_frames_are_being_cancelled(makeClient):
    client = readied(makeClient("ready()\n" + HOLDING.partition("ready()\n")[2]))
    submit(client, "hold")
    client.cancel()
    with pytest.raises(WorkerError, match="not finished yet"):
        submit(client, "more")


@pytest.mark.parametrize("kinds", [("frame", "segment"), ("segment", "frame")])
def test_frames_and_other_requests_do_not_mix(makeClient, kinds):
    client = readied(makeClient(HOLDING))
    record = Record()
    client.submit({"request": kinds[0], "what": "hold"}, *record.callbacks)
    with pytest.raises(WorkerError) as caught:
        client.submit({"request": kinds[1]}, *Record().callbacks)
    assert caught.value.code == "busy"
    assert record.ends == (0, 0, 0)


def test_error_of_one_frame_leaves_the_others(makeClient):
    client = readied(
        makeClient(
            "ready()\nfor request in requests():\n"
            '    if request.get("what") == "broken":\n'
            '        say("error", id=request["id"], code="input", message="No frame.", traceback="")\n'
            '    else:\n        say("result", id=request["id"], result={})\n'
        )
    )
    broken, whole = submit(client, "broken"), submit(client, "whole")
    assert client.wait(20)
    assert (broken.ends, whole.ends) == ((0, 1, 0), (1, 0, 0))


def test_error_that_ends_the_process_ends_its_other_frames_too(makeClient):
    client = readied(
        makeClient(
            'ready()\nfirst = next(requests())\nsay("result", id=first["id"], result={})\nframe = next(requests())\n'
            'next(requests())\nsay("error", id=frame["id"], code="memory", message="Full.", traceback="")\n'
            "time.sleep(60)\n"
        )
    )
    records = [submit(client, number) for number in range(2)]
    assert client.wait(20)
    assert [record.ends for record in records] == [(0, 1, 0)] * 2
    assert {str(record.errors[0]) for record in records} == {"Full."}


def test_process_that_dies_ends_all_frames_with_a_sentence(makeClient):
    client = readied(
        makeClient(
            'ready()\nfirst = next(requests())\nsay("result", id=first["id"], result={})\nframe = next(requests())\n'
            'next(requests())\nsay("progress", id=frame["id"], fraction=0, stage="")\ntime.sleep(0.2)\nos._exit(3)\n'
        )
    )
    records = [submit(client, number) for number in range(2)]
    assert client.wait(20)
    assert [record.ends for record in records] == [(0, 1, 0)] * 2
    assert records[0].errors[0].code == "died"


def test_process_that_ended_as_idle_is_replaced_for_the_newest_frame(makeClient):
    client = readied(
        makeClient(
            'ready()\nfirst = next(requests())\nsay("result", id=first["id"], result={"pid": os.getpid()})\n'
            'sys.stdin.readline()\nsay("ended", reason="idle")\n'
        )
    )
    older, newest = submit(client, 1), submit(client, 2)
    assert client.wait(20)
    assert (older.ends, newest.ends) == ((0, 0, 1), (1, 0, 0))


def test_all_ends_are_told_also_when_a_callback_fails(makeClient):
    client = makeClient("time.sleep(0.5)\n" + HOLDING)
    records = [Record() for _ in range(3)]

    def fail() -> None:
        records[0].cancelled += 1
        raise ValueError("the panel is gone")

    onProgress, onResult, onError, _ = records[0].callbacks
    client.submit({"request": "frame"}, onProgress, onResult, onError, fail)
    with pytest.raises(ValueError, match="the panel is gone"):
        client.submit({"request": "frame"}, *records[1].callbacks)
    client.shutdown()
    assert [record.ends for record in records[:2]] == [(0, 0, 1)] * 2


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_blobs(tmp_path_factory.mktemp("models") / "blobs.safetensors")


@pytest.fixture(params=["subprocess", "qt"])
def realClient(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerClient]:
    # Asked for outside of Slicer's stand-in, which has no Python of its own.
    command = workerCommand()
    with transports(request.param, tmp_path_factory.mktemp("slicer")) as factory:
        client = WorkerClient(factory, lambda: command)
        yield client
        client.shutdown()


def test_stream_of_frames_through_the_real_worker(realClient, model):
    request = {"request": "frame", "model": str(model), "options": {"device": "cpu"}}
    run(realClient, {**request, "frame": save_frame(frame(SMALL))}, 60)
    image = np.kron(frame(SMALL), np.ones((4, 4), np.uint8))
    records = []
    for number in range(40):
        last = number == 39
        document = save_frame(frame(LARGE) if last else image)
        record = Record()
        realClient.submit({**request, "frame": document}, *record.callbacks)
        records.append(record)
        realClient.wait(0.005)
    assert realClient.wait(60)
    assert all(sum(record.ends) == 1 and not record.errors for record in records)
    assert load_plane_result(records[-1].results[0]).plane == "Large"
    planes = {load_plane_result(result).plane for record in records[:-1] for result in record.results}
    assert planes == {"Small"}
