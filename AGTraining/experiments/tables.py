"""The papers' tables 1 to 4 as data: rows, their configurations, and the figures that are known.

The tables are those of Oktay et al. 2018 (arXiv 1804.03999v3). The paper itself was not at hand: each figure was taken
from readers' notes of it in public repositories and stands here only where such a note gives it. `Figure.notes` says
how many notes agree. What none of them gives is UNKNOWN: all precisions, spleen and kidneys, the U-Net on CT-82 before
fine-tuning and from scratch. Who has the paper fills it in. The parameters are also those of our networks, which tests
hold. Distances are in mm, times in seconds for 1 × 1 × 160 × 160 × 96 on the authors' GPU.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Figure:
    """A figure of the paper: mean and SD over test scans (None: not given). notes: how many sources agree on it.

    mean None is a figure that the paper has and we do not know.
    """

    mean: float | None
    sd: float | None = None
    notes: int = 0


UNKNOWN = Figure(None)


@dataclass(frozen=True)
class SplitSize:
    """How a data set is parted: numbers of scans, or folds. The paper's own lists of patients are not published."""

    training: int = 0
    validation: int = 0
    folds: int = 1


# By the name of the file that configurations give; `reproduce` makes those that are not there.
SPLITS: Mapping[str, SplitSize] = {
    "splits_120_30.json": SplitSize(120, 30),
    "splits_30_120.json": SplitSize(30, 120),
    "splits_61_21.json": SplitSize(61, 21),
    "splits_5_fold.json": SplitSize(folds=5),
}
# Of data sets that lost scans since the papers, by the scans they have: CT-82's patients 25 and 70 were withdrawn.
SPLITS_TODAY: Mapping[str, Mapping[int, SplitSize]] = {"splits_61_21.json": {80: SplitSize(59, 21)}}


@dataclass(frozen=True)
class Row:
    """A row. name: of its configuration in this folder; title: as printed.

    figures: by measure, an organ and a key of evaluation's METRIC, such as "pancreas dsc".
    model_of: the row whose model is tested here without more training; starts_from: the row whose model is trained on.
    folds: of its split, all of which are run.
    """

    name: str
    title: str
    figures: Mapping[str, Figure] = field(default_factory=dict)
    parameters_m: float | None = None
    seconds: float | None = None
    model_of: str | None = None
    starts_from: str | None = None
    folds: int = 1


@dataclass(frozen=True)
class Table:
    """A table. measures: what its rows are measured in; reference: the row to which times are related."""

    name: str
    title: str
    measures: tuple[str, ...]
    rows: tuple[Row, ...]
    reference: str = "table1_unet_120_30"


PANCREAS = ("pancreas dsc", "pancreas precision", "pancreas recall", "pancreas s2s_mm")

UNET_120 = Row(
    "table1_unet_120_30",
    "U-Net (120/30)",
    {
        "pancreas dsc": Figure(0.814, 0.116, 3),
        "pancreas recall": Figure(0.806, 0.126, 2),
        "pancreas s2s_mm": Figure(2.358, 1.464, 2),
    },
    parameters_m=5.88,
    seconds=0.167,
)
ATTENTION_UNET_120 = Row(
    "table1_attention_unet_120_30",
    "Attention U-Net (120/30)",
    {
        "pancreas dsc": Figure(0.840, 0.087, 3),
        "pancreas recall": Figure(0.841, 0.092, 2),
        "pancreas s2s_mm": Figure(1.920, 1.284, 2),
    },
    parameters_m=6.40,
    seconds=0.179,
)

TABLES = (
    Table(
        "table1",
        "CT-150, networks trained on 120 and on 30 scans",
        (*PANCREAS, "spleen dsc", "kidney dsc"),
        (
            UNET_120,
            ATTENTION_UNET_120,
            Row(
                "table1_unet_30_120",
                "U-Net (30/120)",
                {
                    "pancreas dsc": Figure(0.741, 0.137, 2),
                    "pancreas recall": Figure(0.743, 0.179, 1),
                    "pancreas s2s_mm": Figure(3.765, 3.452, 1),
                },
                parameters_m=5.88,
                seconds=0.167,
            ),
            Row(
                "table1_attention_unet_30_120",
                "Attention U-Net (30/120)",
                {
                    "pancreas dsc": Figure(0.767, 0.132, 3),
                    "pancreas recall": Figure(0.762, 0.145, 2),
                    "pancreas s2s_mm": Figure(3.507, 3.814, 2),
                },
                parameters_m=6.40,
                seconds=0.179,
            ),
        ),
    ),
    Table(
        "table2",
        "CT-150 (120/30), U-Nets of more capacity beside the Attention U-Net of table 1",
        PANCREAS,
        (
            Row(
                "table2_unet_6m_120_30",
                "U-Net 6.44 M",
                {
                    "pancreas dsc": Figure(0.821, None, 2),
                    "pancreas recall": Figure(0.814, None, 1),
                    "pancreas s2s_mm": Figure(2.383, None, 2),
                },
                parameters_m=6.44,
                seconds=0.191,
            ),
            Row(
                "table2_unet_10m_120_30",
                "U-Net 10.40 M",
                {
                    "pancreas dsc": Figure(0.825, None, 2),
                    "pancreas recall": Figure(0.807, None, 1),
                    "pancreas s2s_mm": Figure(2.202, None, 2),
                },
                parameters_m=10.40,
                seconds=0.222,
            ),
            ATTENTION_UNET_120,
        ),
    ),
    Table(
        "table3",
        "CT-82 (61/21): before fine-tuning (BFT), after it (AFT), from scratch (SCR)",
        PANCREAS,
        (
            Row("table3_unet_bft", "U-Net BFT", model_of="table1_unet_120_30"),
            Row(
                "table3_attention_unet_bft",
                "Attention U-Net BFT",
                {
                    "pancreas dsc": Figure(0.712, 0.110, 1),
                    "pancreas recall": Figure(0.751, 0.149, 1),
                    "pancreas s2s_mm": Figure(5.251, 2.551, 1),
                },
                model_of="table1_attention_unet_120_30",
            ),
            Row(
                "table3_unet_aft",
                "U-Net AFT",
                {
                    "pancreas dsc": Figure(0.820, 0.043, 2),
                    "pancreas recall": Figure(0.828, None, 1),
                    "pancreas s2s_mm": Figure(2.464, None, 1),
                },
                starts_from="table1_unet_120_30",
            ),
            Row(
                "table3_attention_unet_aft",
                "Attention U-Net AFT",
                {
                    "pancreas dsc": Figure(0.831, 0.038, 3),
                    "pancreas recall": Figure(0.840, 0.053, 1),
                    "pancreas s2s_mm": Figure(2.305, 0.568, 1),
                },
                starts_from="table1_attention_unet_120_30",
            ),
            Row("table3_unet_scr", "U-Net SCR"),
            Row(
                "table3_attention_unet_scr",
                "Attention U-Net SCR",
                {
                    "pancreas dsc": Figure(0.821, 0.057, 1),
                    "pancreas recall": Figure(0.835, 0.057, 1),
                    "pancreas s2s_mm": Figure(2.333, 0.856, 1),
                },
            ),
        ),
    ),
    Table(
        "table4",
        "CT-82, 5-fold cross-validation (the paper's other rows are other authors' methods)",
        PANCREAS,
        (
            Row(
                "table4_attention_unet_5_fold",
                "Attention U-Net",
                # Of the table's text; the notes quote it as 81.48 ± 6.23 %.
                {"pancreas dsc": Figure(0.8148, 0.0623, 3)},
                folds=5,
            ),
        ),
    ),
)
ROWS: Mapping[str, Row] = {row.name: row for table in TABLES for row in table.rows}
