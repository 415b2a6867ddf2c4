"""The papers' tables 5 to 7 as data: standard planes in fetal ultrasound.

The tables are those of Schlemper et al. 2019 (Medical Image Analysis 53). The paper itself was not at hand, and no
public note that was found quotes its figures: all scores are UNKNOWN here, and who has the paper fills them in. Known
are the networks' parameters, which tests hold ours to, and how much longer a forward pass takes than that of the
Sononet of the same width on the authors' GPU. The data of the paper are not public.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from AGTraining.experiments.tables import Figure

OVERALL = ("accuracy", "precision", "recall", "f1")
LOCALISATION = ("iou", "correctness", "relative correctness")
# Of each class of the data, in place of overall ones.
BY_CLASS = ("precision", "recall", "f1")
LABELS = {
    "accuracy": "accuracy",
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
    "iou": "IOU",
    "correctness": "correctness",
    "relative correctness": "relative correctness",
}


@dataclass(frozen=True)
class PlaneRow:
    """A row. name: of its configuration in this folder; title: as printed.

    figures: by measure, for all classes (macro means) or behind a class's name, such as "Femur f1".
    reference: the row whose time of a forward pass is 1; time_ratio: the paper's.
    """

    name: str
    title: str
    figures: Mapping[str, Figure] = field(default_factory=dict)
    parameters_m: float | None = None
    reference: str | None = None
    time_ratio: float | None = None


@dataclass(frozen=True)
class PlaneTable:
    """A table. measures: what its rows are measured in; by_class: of each class, not over all of them."""

    name: str
    title: str
    measures: tuple[str, ...]
    rows: tuple[PlaneRow, ...]
    by_class: bool = False


SONONETS = {
    8: PlaneRow("table5_sononet_8", "Sononet-8", parameters_m=0.16),
    16: PlaneRow("table5_sononet_16", "Sononet-16", parameters_m=0.65),
    32: PlaneRow("table5_sononet_32", "Sononet-32", parameters_m=2.58),
}
AG_SONONETS = {
    8: PlaneRow(
        "table5_ag_sononet_8", "AG-Sononet-8", parameters_m=0.18, reference="table5_sononet_8", time_ratio=1.41
    ),
    16: PlaneRow(
        "table5_ag_sononet_16", "AG-Sononet-16", parameters_m=0.70, reference="table5_sononet_16", time_ratio=1.34
    ),
    32: PlaneRow(
        "table5_ag_sononet_32", "AG-Sononet-32", parameters_m=2.79, reference="table5_sononet_32", time_ratio=1.22
    ),
}

PLANE_TABLES = (
    PlaneTable(
        "table5",
        "Standard planes: Sononet and AG-Sononet of three widths",
        OVERALL,
        tuple(row for width in SONONETS for row in (SONONETS[width], AG_SONONETS[width])),
    ),
    PlaneTable(
        "table6",
        "Standard planes, class by class: Sononet-8 and AG-Sononet-8",
        BY_CLASS,
        (SONONETS[8], AG_SONONETS[8]),
        by_class=True,
    ),
    PlaneTable(
        "table7",
        "AG-Sononet-8: how the scales are joined, and localization by the attention",
        (*OVERALL, *LOCALISATION),
        (
            PlaneRow("table7_ag_sononet_8_concat", "concat", reference="table5_sononet_8"),
            PlaneRow("table7_ag_sononet_8_mean", "mean", reference="table5_sononet_8"),
            PlaneRow("table7_ag_sononet_8_deep_sup", "deep supervision", reference="table5_sononet_8"),
            AG_SONONETS[8],
        ),
    ),
)
PLANE_ROWS: Mapping[str, PlaneRow] = {row.name: row for table in PLANE_TABLES for row in table.rows}
