"""The worker client with scripted workers, over both transports."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from AttentionSegmentationLib.SubprocessTransport import SubprocessTransport
from AttentionSegmentationLib.WorkerClient import WorkerClient, WorkerError
from AttentionSegmentationLib.WorkerCommand import WorkerCommand

from Testing.AttentionSegmentation.workers import (
    DEAF,
    POLITE,
    Record,
    isGone,
    processesBelow,
    run,
    scripted,
    transports,
    waitUntil,
)

posix = pytest.mark.skipif(os.name == "nt", reason="signals are POSIX's")


@pytest.fixture(params=["subprocess", "qt"])
def makeClient(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> Iterator[Callable[..., WorkerClient]]:
    """Makes clients of scripted workers; afterwards none of their processes may be left."""
    before = processesBelow()
    clients: list[WorkerClient] = []
    with transports(request.param, tmp_path_factory.mktemp("slicer")) as factory:

        def make(code: str, *, launcher: bool = False, **keywords: Any) -> WorkerClient:
            folder = tmp_path / "Müller, Ärzte & Söhne"
            folder.mkdir(exist_ok=True)
            clients.append(WorkerClient(factory, scripted(code, folder=folder, launcher=launcher), **keywords))
            return clients[-1]

        yield make
        for client in clients:
            client.shutdown(seconds=0.3)
        waitUntil(lambda: all(isGone(process) for process in processesBelow() - before))


def start(client: WorkerClient, request: str = "wait") -> Record:
    """A request that is on its way, at a worker that is ready for it."""
    record = Record()
    client.submit({"request": request}, *record.callbacks)
    waitUntil(lambda: client.state == "busy", client)
    return record


def workerId(client: WorkerClient) -> int:
    """The process that says it is the worker."""
    return int(client.log.rpartition(", process ")[2].partition(")")[0])


def test_request_ends_in_its_result_after_its_progress(makeClient):
    record = run(makeClient(POLITE))
    assert record.progress == [(0.5, "Halfway")]
    assert record.results[0]["echo"] == "echo"
    assert record.ends == (1, 0, 0)


def test_second_request_goes_to_the_same_process(makeClient):
    client = makeClient(POLITE)
    first, second = run(client), run(client)
    assert first.results == second.results


def test_state_follows_the_process(makeClient):
    client = makeClient(POLITE)
    states = [client.state]
    record = Record()
    client.submit({"request": "wait"}, *record.callbacks)
    states.append(client.state)
    waitUntil(lambda: client.state != "starting", client)
    states.append(client.state)
    client.cancel()
    client.wait(5)
    states.append(client.state)
    client.shutdown()
    assert [*states, client.state] == ["stopped", "starting", "busy", "idle", "stopped"]


def test_names_outside_unicode_reach_the_worker_as_they_are(makeClient):
    client = makeClient(
        'ready()\nfor request in requests():\n    say("result", id=request["id"], result={"name": request["name"]})\n'
    )
    name = "Größe \udcff 日本"
    assert run(client, {"request": "echo", "name": name}).results == [{"name": name}]


def test_second_request_meanwhile_is_refused_and_the_first_goes_on(makeClient):
    client = makeClient(POLITE)
    record = start(client)
    with pytest.raises(WorkerError, match="not finished yet") as caught:
        client.submit({"request": "echo"}, *Record().callbacks)
    assert caught.value.code == "busy"
    assert record.ends == (0, 0, 0)
    assert client.state == "busy"


def test_request_that_is_no_json_leaves_the_client_free(makeClient):
    client = makeClient(POLITE)
    record = Record()
    with pytest.raises(TypeError):
        client.submit({"request": "echo", "organs": {"spleen"}}, *record.callbacks)
    assert not client.isBusy
    assert record.ends == (0, 0, 0)
    assert run(client).ends == (1, 0, 0)


def test_callback_may_submit_and_wait_for_the_next_request(makeClient):
    client = makeClient(POLITE)
    inner: list[Record] = []
    record = Record()
    onProgress, _, onError, onCancelled = record.callbacks
    client.submit({"request": "one"}, onProgress, lambda document: inner.append(run(client)), onError, onCancelled)
    waitUntil(lambda: bool(inner), client)
    assert inner[0].ends == (1, 0, 0)


def test_confirmed_cancellation_keeps_the_process(makeClient):
    client = makeClient(POLITE)
    record = start(client)
    process = workerId(client)
    client.cancel()
    assert client.wait(5)
    assert record.ends == (0, 0, 1)
    assert run(client).results[0]["pid"] == process


def test_cancellation_before_the_worker_is_ready_is_immediate(makeClient):
    client = makeClient("time.sleep(0.5)\n" + POLITE)
    record = Record()
    client.submit({"request": "echo"}, *record.callbacks)
    client.cancel()
    assert record.ends == (0, 0, 1)
    assert run(client).ends == (1, 0, 0)


def test_no_progress_is_told_after_the_cancellation(makeClient):
    client = makeClient(
        'ready()\nfor request in requests():\n    if request["request"] == "cancel":\n'
        '        say("progress", id=request["target"], fraction=0.9, stage="Late")\n'
        '        say("cancelled", id=request["target"])\n'
    )
    record = start(client)
    client.cancel()
    assert client.wait(5)
    assert record.ends == (0, 0, 1)
    assert record.progress == []


def test_result_that_crosses_a_cancellation_counts_as_cancelled(makeClient):
    client = makeClient(
        "ready()\nfirst = next(requests())\nnext(requests())\n"
        'say("result", id=first["id"], result={})\ntime.sleep(60)\n'
    )
    record = start(client)
    client.cancel()
    assert client.wait(5)
    assert record.ends == (0, 0, 1)


@pytest.mark.parametrize("launcher", [False, True])
def test_worker_that_ignores_a_cancellation_is_ended_within_a_second(makeClient, launcher):
    client = makeClient(DEAF, launcher=launcher)
    record = start(client)
    waitUntil(lambda: bool(record.progress), client)
    process = workerId(client)
    began = time.monotonic()
    client.cancel()
    assert client.wait(5)
    assert time.monotonic() - began < 1.0
    assert record.ends == (0, 0, 1)
    assert client.state == "stopped"
    waitUntil(lambda: isGone(process), seconds=1.0)


@posix
def test_killed_worker_gives_one_sentence_and_the_next_request_a_fresh_one(makeClient):
    client = makeClient(
        'ready()\nfor request in requests():\n    say("progress", id=request["id"], fraction=0, stage="")\n'
        '    if request["request"] == "die":\n        os.kill(os.getpid(), 9)\n'
        '    say("result", id=request["id"], result={})\n'
    )
    error = run(client, {"request": "die"}).errors[0]
    assert error.code == "died"
    assert "signal 9, SIGKILL" in str(error)
    assert "memory" in str(error)
    assert run(client).ends == (1, 0, 0)


@posix
def test_worker_that_was_killed_while_idle_is_replaced_without_a_word(makeClient):
    client = makeClient(POLITE)
    process = run(client).results[0]["pid"]
    os.kill(process, signal.SIGKILL)
    record = run(client)
    assert record.ends == (1, 0, 0)
    assert record.results[0]["pid"] != process


def test_worker_that_ends_while_a_request_is_on_its_way_is_replaced(makeClient):
    client = makeClient(
        'ready()\nfirst = next(requests())\nsay("result", id=first["id"], result={"pid": os.getpid()})\n'
        'sys.stdin.readline()\nsay("ended", reason="idle")\n'
    )
    first = run(client).results[0]["pid"]
    second = run(client)
    assert second.ends == (1, 0, 0)
    assert second.results[0]["pid"] != first


def test_worker_that_ends_because_it_is_idle_is_no_error(makeClient):
    client = makeClient(
        'ready()\nfirst = next(requests())\nsay("result", id=first["id"], result={})\nsay("ended", reason="idle")\n'
    )
    assert run(client).ends == (1, 0, 0)
    waitUntil(lambda: client.state == "stopped")
    assert run(client).ends == (1, 0, 0)


def test_exit_at_once_says_why(makeClient):
    client = makeClient('sys.exit("No module named AGTraining")\n')
    error = run(client).errors[0]
    assert error.code == "start"
    assert "exit code 1" in str(error)
    assert "No module named AGTraining" in str(error)
    assert "No module named AGTraining" in error.details


def test_crash_behind_a_launcher_is_recognized(makeClient):
    client = makeClient(
        'ready()\nsay("progress", id=next(requests())["id"], fraction=0, stage="")\n'
        'sys.exit("error: [python-real] exit abnormally - Report the problem.")\n'
    )
    error = run(client).errors[0]
    assert error.code == "died"
    assert "it crashed" in str(error)


def test_program_that_does_not_exist_is_named(makeClient, tmp_path):
    client = makeClient("")
    client._commandFactory = lambda: WorkerCommand(str(tmp_path / "nö python"), (), {}, str(tmp_path))
    error = run(client).errors[0]
    assert error.code == "start"
    assert "nö python" in str(error)
    assert client.state == "stopped"


def test_command_that_cannot_be_made_is_told_to_the_request(makeClient):
    client = makeClient("")

    def fail():
        raise WorkerError("PythonSlicer is missing.", "start")

    client._commandFactory = fail
    error = run(client).errors[0]
    assert (error.code, str(error)) == ("start", "PythonSlicer is missing.")


@pytest.mark.parametrize("part", ["command", "transport", "start"])
def test_unforeseen_error_at_the_start_is_told_and_the_client_is_free(makeClient, monkeypatch, part):
    client = makeClient(POLITE)

    def fail(*arguments):
        raise OSError("no more handles")

    with monkeypatch.context() as broken:
        if part == "command":
            broken.setattr(client, "_commandFactory", fail)
        elif part == "transport":
            broken.setattr(client, "_transportFactory", fail)
        else:
            transport = client._transportFactory()
            broken.setattr(transport, "start", fail)
            broken.setattr(client, "_transportFactory", lambda: transport)
        record = run(client)
    (error,) = record.errors
    assert error.code == "start"
    assert "no more handles" in str(error)
    assert "Traceback" in error.details
    assert (client.isBusy, client.state) == (False, "stopped")
    assert run(client).ends == (1, 0, 0)


def test_error_of_a_callback_at_the_start_comes_out_and_the_client_is_free(makeClient):
    client = makeClient(POLITE)
    command = client._commandFactory

    def failToStart():
        raise WorkerError("PythonSlicer is missing.", "start")

    def failToListen(error):
        client._commandFactory = command
        raise ValueError("the panel is gone")

    client._commandFactory = failToStart
    onProgress, onResult, _, onCancelled = Record().callbacks
    with pytest.raises(ValueError, match="the panel is gone"):
        client.submit({"request": "echo"}, onProgress, onResult, failToListen, onCancelled)
    assert run(client).ends == (1, 0, 0)


@pytest.mark.parametrize("launcher", [False, True])
def test_hang_at_start_ends_in_a_sentence(makeClient, launcher):
    client = makeClient(
        'print("looking around as", os.getpid(), file=sys.stderr, flush=True)\ntime.sleep(600)\n',
        launcher=launcher,
        startupSeconds=0.7,
    )
    error = run(client, seconds=5).errors[0]
    assert error.code == "start"
    assert "not ready after" in str(error)
    process = int(error.details.partition("looking around as ")[2].split()[0])
    waitUntil(lambda: isGone(process), seconds=1.0)
    assert client.state == "stopped"


@pytest.mark.parametrize("line", ["garbage", "[1, 2]", '{"no": "event"}', "\\x00\\xff"])
def test_garbage_ends_in_a_sentence_and_the_process_with_it(makeClient, line):
    client = makeClient(f"ready()\nnext(requests())\nprint({line!r}, flush=True)\ntime.sleep(600)\n")
    error = run(client).errors[0]
    assert error.code == "protocol"
    assert "not of its protocol" in str(error)
    assert client.state == "stopped"


def test_lines_of_a_launcher_before_the_first_event_go_to_the_log(makeClient):
    client = makeClient('print("Welcome to Slicer", flush=True)\n' + POLITE)
    assert run(client).ends == (1, 0, 0)
    assert "Welcome to Slicer" in client.log


def test_endless_lines_before_the_first_event_are_garbage(makeClient):
    client = makeClient('while True:\n    print("y")\n')
    assert run(client).errors[0].code == "protocol"


def test_other_protocol_is_refused_with_both_numbers(makeClient):
    client = makeClient('say("ready", protocol=2, version="9.9", pid=1)\ntime.sleep(600)\n')
    error = run(client).errors[0]
    assert error.code == "protocol"
    assert "protocol 2" in str(error)
    assert "protocol 1" in str(error)


def test_error_of_the_worker_keeps_code_and_traceback(makeClient):
    client = makeClient(
        'ready()\nfor request in requests():\n    say("error", id=request["id"], code="input", message="No CT.",'
        ' traceback="Traceback …")\n'
    )
    record = run(client)
    assert [(error.code, str(error), error.details) for error in record.errors] == [("input", "No CT.", "Traceback …")]
    assert client.state == "idle"


def test_after_a_broken_package_the_next_request_has_a_fresh_process(makeClient):
    client = makeClient(
        'ready()\nfor request in requests():\n    say("error", id=request["id"], code="package",'
        ' message=str(os.getpid()), traceback="")\n'
    )
    first, second = run(client).errors[0], run(client).errors[0]
    assert (first.code, second.code) == ("package", "package")
    assert str(first) != str(second)


def test_process_that_should_have_ended_is_gone_before_the_next_one_starts(makeClient):
    """It may still hold the GPU's memory, for want of which it was dismissed."""
    client = makeClient(
        'ready()\nfirst = next(requests())\nsay("error", id=first["id"], code="memory", message=str(os.getpid()),'
        ' traceback="")\ntime.sleep(600)\n'
    )
    first = int(str(run(client).errors[0]))
    assert not isGone(first)
    second = Record()
    client.submit({"request": "echo"}, *second.callbacks)
    assert isGone(first)
    assert client.wait(20)


def test_events_about_other_requests_are_passed_over(makeClient):
    client = makeClient(
        'ready()\nid = next(requests())["id"]\nsay("result", id="0", result={"stale": True})\n'
        'say("news", id=id)\nsay("result", id=id, result={"right": True})\ntime.sleep(60)\n'
    )
    assert run(client).results == [{"right": True}]


def test_flood_on_stderr_neither_blocks_nor_fills_the_memory(makeClient):
    client = makeClient(
        'sys.stderr.write(("x" * 199 + "\\n") * 100_000)\nsys.stderr.write("y" * 5_000_000 + "\\nlast words\\n")\n'
        + POLITE
    )
    assert run(client).ends == (1, 0, 0)
    run(client)
    assert "last words" in client.log
    assert len(client.log) < 6_000_000


def test_every_line_of_the_log_reaches_its_listeners(makeClient):
    client = makeClient('sys.stderr.buffer.write("Wärme\\r\\nhalf".encode())\nsys.stderr.flush()\n' + POLITE)
    lines: list[str] = []
    client.logListeners.append(lines.append)
    run(client)
    client.shutdown()
    assert "Wärme" in lines
    assert any("The worker is ready" in line for line in lines)


def test_listener_that_fails_does_not_stop_the_work(makeClient):
    client = makeClient(POLITE)

    def fail(line: str) -> None:
        raise ValueError("the panel is gone")

    client.logListeners.append(fail)
    assert run(client).ends == (1, 0, 0)


@pytest.mark.parametrize("launcher", [False, True])
def test_shutdown_leaves_no_process(makeClient, launcher):
    client = makeClient(POLITE, launcher=launcher)
    process = run(client).results[0]["pid"]
    client.shutdown()
    assert client.state == "stopped"
    waitUntil(lambda: isGone(process), seconds=1.0)
    client.shutdown()


def test_shutdown_kills_a_worker_that_does_not_go(makeClient):
    client = makeClient(DEAF, launcher=True)
    record = start(client)
    process = workerId(client)
    began = time.monotonic()
    client.shutdown(seconds=0.3)
    assert time.monotonic() - began < 1.5
    assert record.ends == (0, 0, 1)
    waitUntil(lambda: isGone(process), seconds=1.0)


def test_shutdown_ends_also_a_process_that_should_have_ended_by_itself(makeClient):
    client = makeClient(
        'ready()\nfirst = next(requests())\nsay("error", id=first["id"], code="memory", message=str(os.getpid()),'
        ' traceback="")\ntime.sleep(600)\n',
        launcher=True,
    )
    process = int(str(run(client).errors[0]))
    client.shutdown()
    waitUntil(lambda: isGone(process), seconds=1.0)


def test_client_works_again_after_shutdown(makeClient):
    client = makeClient(POLITE)
    run(client)
    client.shutdown()
    assert run(client).ends == (1, 0, 0)


def test_client_that_nobody_keeps_takes_its_process_along(tmp_path):
    client = WorkerClient(SubprocessTransport, scripted(DEAF, folder=tmp_path))
    start(client)
    process = workerId(client)
    del client
    gc.collect()
    waitUntil(lambda: isGone(process), seconds=2.0)


def test_killed_client_leaves_no_worker(tmp_path, repository):
    """Also behind a launcher, and while the worker works: its input closes with the process that held it."""
    code = (
        f"import sys; sys.path[:0] = {[str(repository), str(repository / 'AttentionSegmentation')]!r}\n"
        "from pathlib import Path\n"
        "from Testing.AttentionSegmentation.workers import *\n"
        "worker = 'import threading\\nready()\\nprint(os.getpid(), file=sys.stderr, flush=True)\\n'\n"
        "worker += 'threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0))).start()\\ntime.sleep(600)\\n'\n"
        f"client = WorkerClient(SubprocessTransport, scripted(worker, folder=Path({str(tmp_path)!r}), launcher=True))\n"
        "client.logListeners.append(lambda line: print(line, flush=True))\n"
        "client.submit({'request': 'echo'}, *Record().callbacks)\n"
        "client.wait()\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    worker = next(int(line) for line in process.stdout if line.strip().isdigit())
    assert not isGone(worker)
    process.kill()
    process.communicate()
    waitUntil(lambda: isGone(worker), seconds=2.0)
