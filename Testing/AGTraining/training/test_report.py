from __future__ import annotations

import base64
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from AGTraining.training.attention_history import Snapshot, most_telling_slice, read_snapshots, write_snapshots
from AGTraining.training.report import write_report
from AGTraining.training.run import train
from Testing.AGTraining.training.toy import CLASSES, make_config


class Page(HTMLParser):
    """The text of a page, what it loads, and its tags that were never closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.loads: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.loads += [value or "" for name, value in attributes if name in ("src", "href")]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


@pytest.fixture(scope="module")
def run(data: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of four epochs whose slices are kept after the first, the third and the last."""
    folder = tmp_path_factory.mktemp("run")
    network = {"name": "AttentionUNet", "arguments": {"features": [2, 3, 4, 5], "sub_gates": 2}}
    train(make_config(data, folder, network=network, report={"attention_epochs": [1, 3, 60]}), "cpu")
    return folder


def test_report_is_one_whole_file(run: Path) -> None:
    page = Page((run / "report.html").read_text(encoding="utf-8"))
    assert page.open == []
    # Curves, slices, and the attention of the one validation case; nothing comes from elsewhere.
    assert len(page.loads) == 3
    for load in page.loads:
        assert load.startswith("data:image/png;base64,")
        assert base64.b64decode(load.split(",")[1]).startswith(b"\x89PNG")


def test_report_says_how_each_organ_fared(run: Path) -> None:
    scores = json.loads((run / "history.json").read_text())[-1]["scores"]
    words = Page((run / "report.html").read_text(encoding="utf-8")).words
    for name, score in scores.items():
        place = words.index(name)
        assert f"{score:.3f}" in words[place : place + 3]
    assert any("seed 0" in word and "4 of 4 epochs" in word for word in words)


def test_report_holds_the_configuration_with_its_defaults(run: Path) -> None:
    text = "".join(Page((run / "report.html").read_text(encoding="utf-8")).words)
    assert "checkpoint_minutes: 10.0" in text and "nesterov: true" in text


def test_slices_are_kept_at_the_chosen_epochs_and_the_last(run: Path) -> None:
    snapshots = read_snapshots(run)
    assert list(snapshots) == [1, 3, 4]
    first, last = snapshots[1][0], snapshots[4][0]
    assert (first.case, first.k) == (last.case, last.k)
    assert np.array_equal(first.image, last.image) and np.array_equal(first.target, last.target)
    assert first.target.any()


def test_each_gate_s_coefficients_are_kept_on_its_own_grid(run: Path) -> None:
    snapshot = read_snapshots(run)[4][0]
    assert sorted(snapshot.attention) == ["level2.gate1", "level2.gate2", "level3.gate1", "level3.gate2"]
    assert snapshot.attention["level2.gate1"].shape == (20, 20)
    assert snapshot.attention["level3.gate2"].shape == (10, 10)
    for alpha in snapshot.attention.values():
        assert alpha.min() >= 0 and alpha.max() <= 1
    # A new gate lets nearly all through; a few steps do not change that.
    assert read_snapshots(run)[1][0].attention["level2.gate1"].mean() > 0.9


def test_report_of_a_run_without_validation_says_so(data: tuple[Path, Path], tmp_path: Path) -> None:
    config = make_config(data, tmp_path, validation=[])
    history = [{"epoch": 1, "loss": 0.5, "learning_rate": 0.1}]
    page = Page(write_report(tmp_path, config, history).read_text(encoding="utf-8"))
    assert "There was no validation." in page.words
    assert len(page.loads) == 1


def test_names_are_text_and_not_html(data: tuple[Path, Path], tmp_path: Path) -> None:
    config = make_config(data, tmp_path, name="<script>alert(1)</script>")
    history = [{"epoch": 1, "loss": 0.5, "learning_rate": 0.1, "scores": {"ball": 0.25}}]
    text = write_report(tmp_path, config, history).read_text(encoding="utf-8")
    assert "<script" not in text
    # The cube was in no validation case.
    assert re.search(r"<td>cube</td><td>–</td><td>–</td>", text)


def test_slice_with_the_most_of_every_organ_is_taken() -> None:
    target = np.zeros((9, 10, 10), dtype=np.uint8)
    target[2, :, :] = 1  # the largest area
    target[4, :7, :] = 1
    target[4, 9, :3] = 2
    target[6, 9, :4] = 2
    assert most_telling_slice(target) == 4
    assert most_telling_slice(np.zeros((9, 4, 4), dtype=np.uint8)) == 4


def test_snapshots_of_a_repeated_epoch_replace_the_earlier(tmp_path: Path) -> None:
    labels = np.zeros((3, 4), dtype=np.uint8)
    for value in (0.25, 0.75):
        alpha = {"level2.gate1": np.full((2, 2), value, dtype=np.float32)}
        write_snapshots(tmp_path, 3, [Snapshot("a", 5, np.ones((3, 4)), labels, labels, alpha)])
    (snapshot,) = read_snapshots(tmp_path)[3]
    assert (snapshot.case, snapshot.k) == ("a", 5)
    assert snapshot.attention["level2.gate1"].tolist() == [[0.75, 0.75], [0.75, 0.75]]
    assert len(list((tmp_path / "slices").iterdir())) == 1


def snapshot(case: str) -> Snapshot:
    labels = np.zeros((8, 8), dtype=np.uint8)
    labels[2:5, 2:5] = 1
    return Snapshot(case, 3, np.ones((8, 8)), labels, labels, {"level2.gate1": np.full((4, 4), 0.5)})


def test_more_cases_may_be_shown_after_a_run_was_resumed(data: tuple[Path, Path], tmp_path: Path) -> None:
    write_snapshots(tmp_path, 1, [snapshot("a")])
    write_snapshots(tmp_path, 2, [snapshot("a"), snapshot("b")])
    history = [{"epoch": n, "loss": 0.5, "learning_rate": 0.1} for n in (1, 2)]
    page = Page(write_report(tmp_path, make_config(data, tmp_path), history).read_text(encoding="utf-8"))
    assert [word for word in page.words if word.startswith("Attention: ")] == [
        "Attention: a, slice 3", "Attention: b, slice 3",
    ]  # fmt: skip


def test_dollars_in_names_are_no_formulas(data: tuple[Path, Path], tmp_path: Path) -> None:
    # As a formula this is an error: there is no such command.
    name = r"$\nosuch$"
    write_snapshots(tmp_path, 1, [snapshot(name)])
    classes = [CLASSES[0] | {"name": name}, CLASSES[1]]
    history = [{"epoch": 1, "loss": 0.5, "learning_rate": 0.1, "scores": {name: 0.25}}]
    config = make_config(data, tmp_path, classes=classes)
    page = Page(write_report(tmp_path, config, history).read_text(encoding="utf-8"))
    assert f"Attention: {name}, slice 3" in page.words
    assert len(page.loads) == 3
