"""The proxies behave as PythonQt was seen to behave in Slicer 5.12.3."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

import pytest


@pytest.fixture
def qt(slicerApplication: Any) -> Any:
    """The module qt."""
    import qt

    return qt


@pytest.fixture
def ctk(slicerApplication: Any) -> Any:
    """The module ctk."""
    import ctk

    return ctk


def test_property_is_an_attribute_and_cannot_be_called(qt: Any) -> None:
    spinBox = qt.QSpinBox()
    spinBox.value = 7

    assert spinBox.value == 7
    with pytest.raises(TypeError, match="not callable"):
        spinBox.value()


def test_method_that_is_no_property_is_called(qt: Any) -> None:
    combo = qt.QComboBox()
    combo.addItem("first")

    assert combo.itemText(0) == "first"
    assert (combo.count, combo.currentText) == (1, "first")


@pytest.mark.parametrize(("value", "expected"), [(2.7, 2), ("5", 5), (True, 1)])
def test_numbers_are_converted_leniently(qt: Any, value: Any, expected: int) -> None:
    spinBox = qt.QSpinBox()
    spinBox.value = value

    assert spinBox.value == expected


def test_none_as_text_is_the_word(qt: Any) -> None:
    label = qt.QLabel()
    label.text = None

    assert label.text == "None"


def test_value_of_a_wrong_type_is_refused(qt: Any) -> None:
    with pytest.raises(AttributeError, match="does not accept"):
        qt.QSpinBox().value = "many"


def test_new_attribute_on_a_plain_object_is_refused(qt: Any) -> None:
    button = qt.QPushButton("Go")

    with pytest.raises(AttributeError, match="tooltip"):
        button.tooltip = "The property is called toolTip"
    with pytest.raises(AttributeError, match="no attribute named 'txt'"):
        _ = button.txt


def test_python_subclass_may_have_attributes_and_is_called_by_qt(qt: Any, slicerApplication: Any) -> None:
    class Watcher(qt.QObject):
        def __init__(self) -> None:
            super().__init__()
            self.types: list[int] = []

        def eventFilter(self, watched: Any, event: Any) -> bool:
            self.types.append(event.type())
            return super().eventFilter(watched, event)

    watcher, label = Watcher(), qt.QLabel("watched")
    label.installEventFilter(watcher)
    label.text = "changed"
    label.show()

    assert qt.QEvent.Show in watcher.types


def test_read_only_property_is_refused(qt: Any) -> None:
    with pytest.raises(AttributeError, match="not writable"):
        qt.QComboBox().count = 3


def test_signal_is_connected_by_signature_and_by_name(qt: Any) -> None:
    button, calls = qt.QPushButton(), []

    assert button.connect("clicked(bool)", calls.append)
    assert button.clicked.connect(lambda: calls.append("no argument"))
    button.click()

    assert calls == [False, "no argument"]


def test_wrong_signature_gives_false_and_a_line(qt: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert qt.QPushButton().connect("clicked(int)", print) is False
    assert "No such signal QPushButton::clicked(int)" in capsys.readouterr().err


def test_disconnected_slot_is_not_called(qt: Any) -> None:
    button, calls = qt.QPushButton(), []

    def onClicked() -> None:
        calls.append("clicked")

    button.connect("clicked()", onClicked)
    assert button.disconnect("clicked()", onClicked)
    assert not button.disconnect("clicked()", onClicked)
    button.click()

    assert calls == []


def test_bound_method_is_kept_alive_by_its_connection(qt: Any) -> None:
    calls: list[str] = []

    class Receiver:
        def onClicked(self) -> None:
            calls.append("clicked")

    button = qt.QPushButton()
    button.connect("clicked()", Receiver().onClicked)
    button.click()

    assert calls == ["clicked"]


def test_exception_of_a_slot_goes_no_further(qt: Any, slotErrors: list[str], capsys: Any) -> None:
    button = qt.QPushButton()
    button.connect("clicked()", lambda: 1 / 0)
    button.click()

    assert "ZeroDivisionError" in slotErrors.pop()
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_partial_gets_all_arguments(qt: Any, slotErrors: list[str]) -> None:
    def slot(name: str) -> None:
        """Takes one argument less than the signal has."""

    button = qt.QPushButton()
    button.connect("clicked(bool)", functools.partial(slot, "name"))
    button.click()

    assert "TypeError" in slotErrors.pop()


def test_enumerations_are_ints_and_flags_combine(qt: Any) -> None:
    label = qt.QLabel("text")
    label.alignment = qt.Qt.AlignRight | qt.Qt.AlignVCenter

    assert label.alignment == 0x82
    assert isinstance(label.alignment, int)
    assert label.alignment & qt.Qt.AlignRight


def test_plain_int_is_accepted_for_an_enumeration_property(qt: Any) -> None:
    label = qt.QLabel("text")
    label.alignment = 2

    assert label.alignment == qt.Qt.AlignRight


def test_lists_come_back_as_tuples(qt: Any) -> None:
    widget = qt.QWidget()
    qt.QLabel("one", widget), qt.QLabel("two", widget)

    assert [child.text for child in widget.children()] == ["one", "two"]
    assert isinstance(widget.findChildren(qt.QLabel), tuple)


def test_one_object_has_one_wrapper_of_its_own_class(qt: Any) -> None:
    widget = qt.QWidget()
    label = qt.QLabel("one", widget)

    assert widget.children()[0] is label
    assert type(label) is qt.QLabel
    assert label.parent() is widget
    assert label.name == label.objectName == ""


def test_destroyed_object_raises_value_error(qt: Any) -> None:
    label = qt.QLabel("text")
    label.delete()

    with pytest.raises(ValueError, match="destroyed"):
        _ = label.text


def test_class_of_qt_that_slicer_lacks_is_missing(qt: Any) -> None:
    with pytest.raises(AttributeError):
        _ = qt.QQuickWidget


def test_what_is_not_emulated_says_so(ctk: Any) -> None:
    with pytest.raises(NotImplementedError, match="does not emulate"):
        ctk.ctkSliderWidget().startChanging()


def test_slider_value_arrives_as_a_float(ctk: Any) -> None:
    slider, values = ctk.ctkSliderWidget(), []
    slider.connect("valueChanged(double)", values.append)
    slider.value = 3

    assert values == [3.0]
    assert isinstance(values[0], float)


def test_settings_come_back_as_text(qt: Any) -> None:
    settings = qt.QSettings()
    settings.setValue("Module/keep", True)
    settings.setValue("Module/count", 3)

    assert qt.QSettings().value("Module/keep") == "true"
    assert qt.QSettings().value("Module/count") == "3"
    assert qt.QSettings().value("Module/other", 5) == 5


def test_timer_fires(qt: Any, processEvents: Callable[..., bool]) -> None:
    calls: list[str] = []
    timer = qt.QTimer()
    timer.singleShot = True
    timer.timeout.connect(lambda: calls.append("timer"))
    timer.start(1)
    qt.QTimer.singleShot(1, lambda: calls.append("once"))

    assert processEvents(lambda: len(calls) == 2, seconds=2)
    assert not timer.active


def test_process_takes_and_gives_bytes(qt: Any, processEvents: Callable[..., bool]) -> None:
    process, output, ends = qt.QProcess(), [], []
    process.connect("readyReadStandardOutput()", lambda: output.append(process.readAllStandardOutput().data()))
    process.connect("finished(int,QProcess::ExitStatus)", lambda code, status: ends.append((code, status)))
    process.start(sys.executable, ["-c", "import sys; sys.stdout.write(input().upper()); sys.exit(3)"])
    process.write(b"echo\n")
    process.closeWriteChannel()

    assert processEvents(lambda: ends, seconds=20)
    assert b"".join(output) == b"ECHO"
    assert ends == [(3, qt.QProcess.NormalExit)]


def test_byte_array_is_not_bytes(qt: Any) -> None:
    with pytest.raises(TypeError):
        bytes(qt.QProcess().readAllStandardOutput())


def test_table_takes_items(qt: Any) -> None:
    table = qt.QTableWidget(1, 2)
    item = qt.QTableWidgetItem("spleen")
    item.setFlags(item.flags() & ~qt.Qt.ItemIsEditable)
    table.setItem(0, 1, item)
    table.horizontalHeader().setSectionResizeMode(qt.QHeaderView.Stretch)

    assert table.item(0, 1).text() == "spleen"
    assert not table.item(0, 1).flags() & qt.Qt.ItemIsEditable
    assert table.columnCount == 2


def test_clipboard_is_the_applications(qt: Any, slicerApplication: Any) -> None:
    slicerApplication.clipboard().setText("copied")

    assert qt.QApplication.clipboard().text() == "copied"
