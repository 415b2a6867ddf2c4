"""Reports: self-contained, complete, and with pictures that show what they say."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from matplotlib import image as pictures

from AGTraining.data.dataset import DatasetDescription, read_dataset
from AGTraining.evaluation.comparison_report import write_comparison_report
from AGTraining.evaluation.evaluate import evaluate
from AGTraining.evaluation.page import picture
from AGTraining.evaluation.plots import bland_altman, box_plots, difference_plots
from AGTraining.evaluation.predictions import FolderPredictions
from AGTraining.evaluation.report import summary_rows, write_report
from AGTraining.evaluation.results import Evaluation, Failure
from AGTraining.evaluation.scores import OrganScores, State
from AGTraining.evaluation.significance import compare
from AGTraining.evaluation.worst_cases import draw_case, worst_rows
from Testing.AGTraining.evaluation.study import make_evaluation, make_study, reference_map, shifted_map, write_map

NAN = float("nan")


class Page(HTMLParser):
    """Text of the cells of each table, alternatives of pictures, and everything that is loaded from elsewhere."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tables: list[list[list[str]]] = []
        self.pictures: list[str] = []
        self.outside: list[str] = []
        self.open: list[str] = []
        self._cell = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.outside += [
            v for k in ("src", "href") if (v := values.get(k)) and not v.startswith("data:image/png;base64,")
        ]
        self._cell = tag in ("td", "th")
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
        elif tag == "img":
            self.pictures.append(values["alt"] or "")

    def handle_endtag(self, tag: str) -> None:
        self._cell = False

    def handle_data(self, data: str) -> None:
        if self._cell:
            self.tables[-1][-1][-1] += data


@pytest.fixture
def study(tmp_path: Path) -> tuple[DatasetDescription, FolderPredictions]:
    """Moved organs; the right kidney is missed in case c, the label of the spleen incomplete in a."""
    dataset = read_dataset(make_study(tmp_path / "data", incomplete=["spleen"]))
    missed = shifted_map(2)
    missed[missed == 2] = 0
    for name, array in zip("abc", (reference_map(), shifted_map(1), missed), strict=True):
        write_map(array, tmp_path / f"out/{name}.nii.gz")
    return dataset, FolderPredictions(tmp_path / "out", dataset)


def test_report_holds_all_and_needs_nothing(
    study: tuple[DatasetDescription, FolderPredictions], tmp_path: Path
) -> None:
    evaluation = replace(evaluate(*study), failures=(Failure("<d>", "was & is broken"),), messages=("look out",))
    path = write_report(evaluation, *study, tmp_path, worst=2)
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert not page.outside
    assert not re.search(r"<(script|link|iframe)|url\(|@import", text)
    summary, counts, failures, cases = page.tables
    assert [row[0] for row in summary] == ["organ", "spleen", "right kidney", "left kidney", "mean of organs"]
    assert counts[0] == ["organ", "scored", "not found", "nothing to find", "both empty", "incomplete label"]
    assert counts[1:3] == [["spleen", "2", "0", "0", "0", "1"], ["right kidney", "2", "1", "0", "0", "0"]]
    assert failures[1] == ["<d>", "was & is broken"]
    assert len(cases) == 1 + 9
    assert '<p class="note">look out</p>' in text
    assert page.pictures[:2] == [
        "Box plots of the scores of each organ",
        "Bland-Altman plots of the volumes of each organ",
    ]
    assert [text.split(",")[0] for text in page.pictures[2:]] == [
        "imagesTr_c: spleen", "imagesTr_b: spleen", "imagesTr_c: right kidney", "imagesTr_b: right kidney",
        "imagesTr_c: left kidney", "imagesTr_b: left kidney",
    ]  # fmt: skip


def test_pictures_can_be_seen(study: tuple[DatasetDescription, FolderPredictions], tmp_path: Path) -> None:
    text = write_report(evaluate(*study), *study, tmp_path).read_text(encoding="utf-8")
    found = re.findall(r"base64,([A-Za-z0-9+/=]+)", text)
    assert len(found) == 5
    for data in found:
        picture = pictures.imread(io.BytesIO(base64.b64decode(data)), format="png")
        assert picture.shape[0] > 200 and picture.shape[1] > 200
        assert picture[..., :3].std() > 0.05


def test_report_does_not_tell_where_files_lie(
    study: tuple[DatasetDescription, FolderPredictions], tmp_path: Path
) -> None:
    text = write_report(evaluate(*study), *study, tmp_path).read_text(encoding="utf-8")
    assert str(tmp_path) not in text


def test_report_stands_when_an_image_cannot_be_read(
    study: tuple[DatasetDescription, FolderPredictions], tmp_path: Path
) -> None:
    evaluation = evaluate(*study)
    for case in study[0].cases:
        case.image.write_bytes(b"no image")
    page = Page(write_report(evaluation, *study, tmp_path).read_text(encoding="utf-8"))
    assert len(page.pictures) == 2


def test_table_is_written_as_in_the_papers() -> None:
    evaluation = make_evaluation({"spleen": [0.8, 0.9, 1.0], "pancreas": [0.5, NAN, 0.7]})
    spleen, pancreas, mean = (row[:3] for row in summary_rows(evaluation))
    assert spleen == ["spleen", "3", "0.900 ± 0.100"]
    assert pancreas == ["pancreas", "3", "0.600 ± 0.141 (n=2)"]
    assert mean == ["mean of organs", "", "0.750"]


def test_worst_cases_are_those_of_lowest_dsc_that_have_an_organ() -> None:
    base = make_evaluation({"spleen": [0.9, 0.2, 0.5]})
    rows = (
        *base.scores,
        OrganScores("empty", "spleen", State.EMPTY),
        OrganScores("incomplete", "spleen", State.INCOMPLETE),
    )
    evaluation = replace(base, scores=rows)
    assert [row.case for row in worst_rows(evaluation, "spleen", 2)] == ["1", "2"]
    assert len(worst_rows(evaluation, "spleen", 9)) == 3


def test_picture_of_a_case_shows_prediction_and_reference(
    study: tuple[DatasetDescription, FolderPredictions],
) -> None:
    dataset, predictions = study
    evaluation = evaluate(dataset, predictions)
    row, organ = evaluation.rows("left kidney")[1], evaluation.organs[2]
    figure = draw_case(dataset.cases[1], dataset, predictions, organ, row)
    figure.canvas.draw()
    shown = np.asarray(figure.canvas.buffer_rgba())[..., :3].astype(int)  # type: ignore[attr-defined]
    assert (np.abs(shown - organ.color).max(axis=-1) < 12).sum() > 200
    legend = next(axes.get_legend() for axes in figure.axes if axes.get_legend())
    assert [text.get_text() for text in legend.get_texts()] == ["left kidney\n3.5 ml", "reference"]
    assert figure.get_suptitle() == "imagesTr_b: left kidney, DSC 0.833"


def test_case_without_prediction_shows_the_reference_alone(
    study: tuple[DatasetDescription, FolderPredictions],
) -> None:
    dataset, predictions = study
    evaluation = evaluate(dataset, predictions)
    row, organ = evaluation.rows("right kidney")[2], evaluation.organs[1]
    figure = draw_case(dataset.cases[2], dataset, predictions, organ, row)
    # Every plane goes through the organ that was missed.
    assert [len(axes.collections) for axes in figure.axes[:3]] == [1, 1, 1]


def test_box_plots_show_every_case_with_a_value() -> None:
    figure = box_plots(make_evaluation({"spleen": [0.9, NAN, 0.5], "pancreas": [NAN, NAN, NAN]}))
    dsc = figure.axes[0]
    (dots,) = dsc.collections
    assert sorted(np.asarray(dots.get_offsets())[:, 1]) == [0.5, 0.9]
    assert [text.get_text() for text in dsc.texts] == ["–"]


def test_bland_altman_lines_are_mean_and_limits_of_agreement() -> None:
    base = make_evaluation({"spleen": [1.0, 1.0, 1.0]})
    errors = (-10.0, 0.0, 10.0)
    rows = tuple(
        replace(row, predicted_ml=100 + error, volume_error_ml=error)
        for row, error in zip(base.scores, errors, strict=True)
    )
    empty = OrganScores("e", "spleen", State.EMPTY, 0.0, 0.0, volume_error_ml=0.0)
    (axes,) = bland_altman(replace(base, scores=(*rows, empty))).axes
    lines = [line.get_ydata()[0] for line in axes.lines]  # type: ignore[index]
    assert lines == pytest.approx([0, 0, 19.6, -19.6])
    found, missed = (np.asarray(dots.get_offsets()) for dots in axes.collections)
    assert found.tolist() == [[95, -10], [100, 0], [105, 10]]
    assert len(missed) == 0


@pytest.mark.parametrize("organs", [1, 4, 15])
def test_plots_stay_readable_with_many_organs(organs: int) -> None:
    evaluation = make_evaluation({f"organ {number}": [0.4, 0.6] for number in range(organs)})
    for figure in (box_plots(evaluation), bland_altman(evaluation)):
        assert figure.get_size_inches()[0] <= 16


def test_comparison_report_has_a_row_for_each_test(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)

    def scores(add: float, name: str) -> Evaluation:
        return make_evaluation({organ: list(draw.random(12) + add) for organ in ("spleen", "pancreas")}, predictor=name)

    comparison = compare(scores(0, "U-Net"), scores(5, "<AG>"), ["dsc", "volume_error_ml"])
    path = write_comparison_report(comparison, {"spleen": (1, 2, 3), "pancreas": (4, 5, 6)}, tmp_path)
    page = Page(path.read_text(encoding="utf-8"))
    assert not page.outside
    (table,) = page.tables
    assert [row[:2] for row in table[1:]] == [
        ["spleen", "DSC"], ["spleen", "|volume error| (ml)"], ["pancreas", "DSC"], ["pancreas", "|volume error| (ml)"],
    ]  # fmt: skip
    assert table[1][7].endswith(" *") and table[1][-1] == "<AG>"
    # Neither has a volume error.
    assert table[2][2] == "0 (−12, −12)" and table[2][6:8] == ["–", "–"]
    assert page.pictures == ["Box plots of the differences of each organ"]


def test_difference_plots_show_second_minus_first() -> None:
    comparison = compare(
        make_evaluation({"a": [0.1, 0.2]}), make_evaluation({"a": [0.4, 0.3]}, predictor="b"), ["dsc", "hd95_mm"]
    )
    figure = difference_plots(comparison, {"a": (0.1, 0.2, 0.3)})
    assert sorted(np.asarray(figure.axes[0].collections[0].get_offsets())[:, 1]) == pytest.approx([0.1, 0.3])
    assert [axes.get_title() for axes in figure.axes] == ["DSC: above 0 is better", "HD95 (mm): below 0 is better"]


def test_organs_with_dollars_are_drawn_as_they_are() -> None:
    """Matplotlib takes text between dollars as a formula, and this one is none."""
    name = "$left_{$"
    first, second = make_evaluation({name: [0.1, 0.2]}), make_evaluation({name: [0.4, 0.3]}, predictor="b")
    comparison = compare(first, second, ["dsc"])
    for figure in (box_plots(first), bland_altman(first), difference_plots(comparison, {name: (0.1, 0.2, 0.3)})):
        assert "data:image/png" in picture(figure, "a figure")
