"""Fixtures for tests of widget classes: `pytest_plugins` or an import of these names into a conftest brings them."""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import slicer

# Before Qt is loaded: no display is needed.
os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

from Testing.slicer_standin import dialogs as dialogRecord
from Testing.slicer_standin import signals
from Testing.slicer_standin.install import installed
from Testing.slicer_standin.proxies import unwrap


@pytest.fixture
def slicerApplication(tmp_path: Path) -> Iterator[Any]:
    """`slicer.app` of the stand-in. The test fails when a slot raised, or when a dialog came that it did not expect."""
    dialogRecord.current = dialogRecord.Dialogs()
    signals.slotErrors.clear()
    folder = tmp_path / "slicer"
    folder.mkdir()
    with installed(folder) as app:
        yield app
    problems = [*dialogRecord.current.problems(), *signals.slotErrors]
    signals.slotErrors.clear()
    if problems:
        pytest.fail("\n".join(problems), pytrace=False)


@pytest.fixture
def dialogs(slicerApplication: Any) -> dialogRecord.Dialogs:
    """The dialogs of this test: `expect` announces one, `shown` lists those that came."""
    return dialogRecord.current


@pytest.fixture
def slotErrors(slicerApplication: Any) -> list[str]:
    """Tracebacks of slots that raised; a test that provokes one clears the list."""
    return signals.slotErrors


@pytest.fixture
def processEvents(slicerApplication: Any) -> Callable[..., bool]:
    """Lets Qt work until a condition holds: `processEvents(until, seconds)`; whether it came to hold."""

    def process(until: Callable[[], Any] = lambda: False, seconds: float = 0.1) -> bool:
        end = time.monotonic() + seconds
        while True:
            slicerApplication.processEvents()
            if until():
                return True
            if time.monotonic() > end:
                return False
            time.sleep(0.005)

    return process


@pytest.fixture
def loadModule(slicerApplication: Any) -> Callable[[Path], Any]:
    """Loads a scripted module from its file as Slicer does at its start; gives `slicer.modules.NAME`."""
    return lambda path: slicerApplication._qt.modules.load(Path(path))


@pytest.fixture
def mainWindow(slicerApplication: Any) -> Any:
    """`slicer.util.mainWindow()`, which is None without this fixture."""
    slicerApplication._qt.showMainWindow()
    return slicer.util.mainWindow()


@pytest.fixture
def closeSlicer(slicerApplication: Any) -> Callable[[], None]:
    """What happens when the user closes Slicer: `aboutToQuit()`, then `cleanup()` of the panels."""

    def close() -> None:
        slicerApplication._qt.aboutToQuit.emit()
        slicerApplication._qt.modules.unloadAll()

    return close


@pytest.fixture
def screenshot(slicerApplication: Any) -> Callable[..., Path]:
    """Draws a widget into a PNG file: `screenshot(widget, path, width=400)`; fails where it needs more width."""

    def take(widget: Any, path: Path, width: int = 400) -> Path:
        qtWidget = unwrap(widget)
        qtWidget.show()
        layout = qtWidget.layout()
        height = qtWidget.sizeHint().height()
        if layout is not None and layout.hasHeightForWidth():
            height = layout.totalHeightForWidth(width)
        qtWidget.resize(width, height)
        assert qtWidget.width() == width, f"the widget needs {qtWidget.width()} pixels"
        for _ in range(3):
            slicerApplication.processEvents()
        path.parent.mkdir(parents=True, exist_ok=True)
        if not qtWidget.grab().save(str(path)):
            raise OSError(f"The screenshot could not be written to {path}")
        return path

    return take
