"""What the worker client needs of a process: bytes in, bytes out, and an end that never has to be waited for."""

from abc import ABC, abstractmethod
from collections.abc import Callable

from .WorkerCommand import WorkerCommand

# Deadlines are looked at this often, in seconds.
TICK_SECONDS = 0.05


def _ignore(*_arguments: object) -> None:
    pass


class WorkerTransport(ABC):
    """One process, from start to end; a second process takes a second transport.

    Everything arrives through the five callbacks below, always in the thread that made the transport. After the last
    of them (`onFinished` or `onFailedToStart`) none is called any more, and the transport has freed what it held.
    """

    def __init__(self) -> None:
        self.onOutput: Callable[[bytes], None] = _ignore
        """Some bytes of the standard output, in order, cut anywhere."""
        self.onErrorOutput: Callable[[bytes], None] = _ignore
        """Some bytes of the standard error, in order, cut anywhere."""
        self.onFinished: Callable[[int, bool], None] = _ignore
        """Exit code, and whether the process crashed. The code of a crash is the signal's number where there are
        signals."""
        self.onFailedToStart: Callable[[str], None] = _ignore
        """The reason; may be called before `start` returns."""
        self.onTick: Callable[[], None] = _ignore
        """Every TICK_SECONDS while the process runs and events are handled."""

    @abstractmethod
    def start(self, command: WorkerCommand) -> None:
        """Starts the process; never raises: what goes wrong arrives in `onFailedToStart`."""

    @abstractmethod
    def write(self, data: bytes) -> None:
        """Sends bytes to the standard input without ever waiting for the process. Without a process: nothing."""

    @abstractmethod
    def closeInput(self) -> None:
        """Closes the standard input once all bytes are sent. That also reaches a process behind a launcher."""

    @abstractmethod
    def kill(self) -> None:
        """Ends the process that was started, at once, without waiting for its end.

        What a launcher has started goes on: `ProcessTree.endProcesses` ends that, and has to be called before.
        """

    @property
    @abstractmethod
    def processId(self) -> int:
        """The number that the system gave the process; 0 when none runs."""

    @abstractmethod
    def isRunning(self) -> bool:
        """Whether the process was started and has not ended yet."""

    @abstractmethod
    def deliver(self) -> None:
        """Hands over what has arrived, and handles no other events."""

    @abstractmethod
    def wait(self, seconds: float) -> None:
        """Lets output arrive and timers run, for at most that long; returns as soon as something was handed over."""

    @abstractmethod
    def waitForEnd(self, seconds: float) -> bool:
        """Waits until the process has ended, handling no other events; whether it has."""
