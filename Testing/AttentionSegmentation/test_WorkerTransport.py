"""What both transports promise, and what each must take care of."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from AttentionSegmentationLib.SubprocessTransport import SubprocessTransport
from AttentionSegmentationLib.WorkerCommand import WorkerCommand
from AttentionSegmentationLib.WorkerTransport import WorkerTransport

from Testing.AttentionSegmentation.workers import transports, waitUntil


class Process:
    """A transport that runs a piece of Python, and all that it has called back."""

    def __init__(self, transport: WorkerTransport, code: str, folder: Path, **variables: str) -> None:
        self.transport = transport
        self.output = self.error = b""
        self.ends: list[tuple[int, bool]] = []
        self.failures: list[str] = []
        self.ticks: list[float] = []
        transport.onOutput = lambda data: setattr(self, "output", self.output + data)
        transport.onErrorOutput = lambda data: setattr(self, "error", self.error + data)
        transport.onFinished = lambda *end: self.ends.append(end)
        transport.onFailedToStart = self.failures.append
        transport.onTick = lambda: self.ticks.append(time.monotonic())
        environment = {**os.environ, **variables}
        transport.start(WorkerCommand(sys.executable, ("-I", "-S", "-c", code), environment, str(folder)))

    def finish(self) -> None:
        """Waits for the end."""
        deadline = time.monotonic() + 10
        while not self.ends and not self.failures:
            assert time.monotonic() < deadline
            self.transport.wait(0.2)


@pytest.fixture(params=["subprocess", "qt"])
def factory(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[], WorkerTransport]]:
    with transports(request.param, tmp_path_factory.mktemp("slicer")) as made:
        yield made


@pytest.fixture
def process(factory: Callable[[], WorkerTransport], tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Starts processes; ends them after the test."""
    made = []

    def start(code: str, **variables: str) -> Process:
        made.append(Process(factory(), code, tmp_path, **variables))
        return made[-1]

    yield start
    for one in made:
        one.transport.kill()
        assert one.transport.waitForEnd(5)


def test_all_output_comes_before_the_end(process):
    one = process("import sys; sys.stdout.write('o' * 300_000); sys.stderr.write('e' * 300_000); sys.exit(3)")
    one.finish()
    assert (len(one.output), len(one.error), one.ends) == (300_000, 300_000, [(3, False)])


def test_input_is_sent_and_closed_after_it(process):
    one = process("import sys; print(len(sys.stdin.read()))")
    one.transport.write(b"x" * 500_000)
    one.transport.write(b"y" * 500_000)
    one.transport.closeInput()
    one.finish()
    assert one.output.strip() == b"1000000"


def test_process_that_does_not_read_holds_nobody_up(process):
    one = process("import time; time.sleep(600)")
    began = time.monotonic()
    one.transport.write(b"x" * 5_000_000)
    one.transport.closeInput()
    one.transport.kill()
    one.finish()
    assert time.monotonic() - began < 2


@pytest.mark.skipif(os.name == "nt", reason="signals are POSIX's")
def test_crash_is_told_with_its_signal(process):
    one = process("import os; os.kill(os.getpid(), 11)")
    one.finish()
    assert one.ends == [(11, True)]


def test_program_that_cannot_be_started_is_told_with_its_name(factory, tmp_path):
    transport = factory()
    failures: list[str] = []
    transport.onFailedToStart = failures.append
    transport.start(WorkerCommand(str(tmp_path / "missing"), (), dict(os.environ), str(tmp_path)))
    waitUntil(lambda: transport.wait(0.05) or bool(failures))
    assert len(failures) == 1
    assert "missing" in failures[0]
    assert not transport.isRunning()


def test_ticks_come_while_the_process_runs(process):
    one = process("import time; time.sleep(600)")
    end = time.monotonic() + 1.0
    while time.monotonic() < end:
        one.transport.wait(end - time.monotonic())
    assert 8 <= len(one.ticks) <= 25


def test_nothing_is_called_after_the_end(process):
    one = process("print('once')")
    one.finish()
    one.transport.wait(0.2)
    one.transport.deliver()
    assert one.transport.waitForEnd(0.1)
    assert len(one.ends) == 1


def test_end_is_seen_without_any_other_events(process):
    one = process("import sys; sys.stdin.read()")
    one.transport.wait(0.05)
    one.transport.closeInput()
    assert one.transport.waitForEnd(5)
    assert one.ends == [(0, False)]


def test_wait_within_a_callback_gets_the_following_output(process):
    one = process("print('first', flush=True); input(); print('second', flush=True); input()")
    inner: list[bytes] = []

    def onOutput(data: bytes) -> None:
        inner.append(data)
        if len(inner) == 1:
            one.transport.write(b"go on\n")
            waitUntil(lambda: one.transport.wait(0.1) or len(inner) == 2)

    one.transport.onOutput = onOutput
    waitUntil(lambda: one.transport.wait(0.1) or bool(inner))
    assert [data.strip() for data in inner] == [b"first", b"second"]


def test_ticks_go_on_within_a_tick(process):
    one = process("import time; time.sleep(600)")
    depth: list[int] = []

    def onTick() -> None:
        depth.append(len(depth))
        if len(depth) == 1:
            waitUntil(lambda: one.transport.wait(0.1) or len(depth) > 2)

    one.transport.onTick = onTick
    waitUntil(lambda: one.transport.wait(0.1) or len(depth) > 2)


def test_environment_and_folder_arrive_and_stay_the_processs_own(process, tmp_path):
    one = process(
        "import os; print(os.environb[b'NAME'], os.getcwd() == os.environ['HERE'])", NAME="Ä \udcff", HERE=str(tmp_path)
    )
    one.finish()
    assert one.output.decode().split() == ["b'\\xc3\\x84", "\\xff'", "True"]
    assert "NAME" not in os.environ


class TestSubprocessTransport:
    @pytest.fixture
    def factory(self) -> Callable[[], WorkerTransport]:
        return SubprocessTransport

    def test_slow_reading_threads_lose_nothing_of_a_process_that_has_ended(self, process, monkeypatch):
        put = SubprocessTransport._put

        def putLate(self, name: str, data: bytes) -> None:
            time.sleep(0.1)
            put(self, name, data)

        monkeypatch.setattr(SubprocessTransport, "_put", putLate)
        one = process("print('last words')")
        one.finish()
        assert one.output.strip() == b"last words"

    def test_more_output_than_anyone_fetches_makes_the_process_wait(self, process):
        one = process("import sys\nwhile True: sys.stdout.write('x' * 100_000)")
        time.sleep(0.5)
        assert one.transport._arrived.qsize() <= 256


class TestQtProcessTransport:
    @pytest.fixture
    def factory(self, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], WorkerTransport]]:
        with transports("qt", tmp_path_factory.mktemp("slicer")) as made:
            yield made

    def test_objects_of_qt_are_deleted_after_the_end(self, process):
        one = process("print()")
        one.finish()
        objects = one.transport._process, one.transport._timer
        waitUntil(lambda: one.transport.wait(0.1) or not any(isValid(item) for item in objects))

    def test_signal_that_does_not_exist_is_an_error(self, factory, monkeypatch, tmp_path):
        import qt

        monkeypatch.setattr(qt.QProcess, "connect", lambda *arguments: False)
        with pytest.raises(RuntimeError, match="readyReadStandardOutput"):
            Process(factory(), "", tmp_path)


def isValid(proxy) -> bool:
    try:
        return proxy.objectName is not None
    except ValueError:
        return False
