from __future__ import annotations

from AttentionSegmentationLib.WorkerLog import WorkerLog


def test_lines_that_arrive_in_pieces_are_joined():
    log = WorkerLog()
    data = "Größe 1\r\nGröße 2\n".encode()
    for index in range(len(data)):
        log.addBytes(data[index : index + 1])
    assert log.text == "Größe 1\nGröße 2"


def test_states_of_a_progress_bar_are_lines():
    log = WorkerLog()
    log.addBytes(b"10 %\r20 %\r\n")
    assert log.text.splitlines() == ["10 %", "20 %"]


def test_bytes_that_are_no_text_do_no_harm():
    log = WorkerLog()
    log.addBytes(b"\xff\xfe broken\n")
    assert log.text == "�� broken"


def test_line_without_an_end_is_shown_and_ends_with_the_process():
    log = WorkerLog()
    seen: list[str] = []
    log.listeners.append(seen.append)
    log.addBytes(b"Fatal: Spei")
    assert (log.text, seen) == ("Fatal: Spei", [])
    log.endOfProcess()
    assert seen == ["Fatal: Spei"]


def test_only_the_last_lines_are_kept():
    log = WorkerLog()
    log.addBytes(b"".join(b"line %d\n" % number for number in range(10_000)))
    assert len(log.text.splitlines()) == 2000
    assert log.text.endswith("line 9999")


def test_endless_line_is_cut():
    log = WorkerLog()
    for _ in range(10):
        log.addBytes(b"x" * 100_000)
    assert len(log.text) < 30_000


def test_what_was_said_since_a_mark():
    log = WorkerLog()
    log.addLine("before")
    mark = log.mark
    assert log.since(mark) == ""
    for number in range(100):
        log.addLine(f"after {number}")
    assert log.since(mark, lines=200).splitlines() == [f"after {number}" for number in range(100)]
    assert log.since(mark, lines=2).splitlines() == ["after 98", "after 99"]
