"""Tables 5 to 7: a configuration for each row, and all of it in small."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from AGTraining.cli import main
from AGTraining.errors import ConfigurationError
from AGTraining.evaluation.plane_results import read_plane_evaluation
from AGTraining.experiments.plane_comparison import plane_row_cost
from AGTraining.experiments.plane_tables import LABELS, PLANE_ROWS, PLANE_TABLES, PlaneRow
from AGTraining.experiments.plane_workplace import PlaneWorkplace
from AGTraining.experiments.runs import EXPERIMENTS
from AGTraining.training.config import read_config
from AGTraining.training.planes_config import PlanesConfig


def config_of(row: PlaneRow) -> PlanesConfig:
    config = read_config(EXPERIMENTS / f"{row.name}.yaml", "/data", any_task=True)
    assert isinstance(config, PlanesConfig)
    return config


@pytest.mark.parametrize("row", PLANE_ROWS.values(), ids=lambda row: row.name)
def test_a_configuration_is_what_its_name_and_the_paper_say(row: PlaneRow) -> None:
    config = config_of(row)

    assert config.name == row.name.replace("_", "-") and config.output.name == row.name
    assert config.network.name == ("AGSononet" if "_ag_" in row.name else "Sononet")
    assert len(config.classes) == 14 and sum(item.background for item in config.classes) == 1
    assert (config.optimizer, config.momentum, config.nesterov, config.batch_size) == ("sgd", 0.9, True, 64)
    assert (config.learning_rate, config.warmup_learning_rate, config.warmup_epochs) == (0.1, 0.01, 5)
    assert (config.schedule, config.decay_epochs, config.decay_factor) == ("step", 100, 0.1)
    assert (config.epochs, config.sampling.background_share) == (300, 0.5)
    # The central 208×272 of 224×288.
    box = config.frame.crop_of(np.zeros((224, 288)))
    assert (box.height, box.width) == pytest.approx((208, 272), abs=0.01)
    # Nothing is selected by a look at the test frames.
    assert config.validate_every == config.epochs and config.early_stop == 0
    assert (config.training[0].official, config.validation[0].official) == (["train"], ["test"])
    # All but the background are drawn alike, and no change is made that the paper does not make.
    changes = config.augmentation
    assert not any((changes.gain, changes.speckle, changes.blur, changes.shadow, changes.zoom))


@pytest.mark.parametrize(
    "row", [row for row in PLANE_ROWS.values() if row.parameters_m is not None], ids=lambda row: row.name
)
def test_networks_have_the_papers_parameters(row: PlaneRow) -> None:
    assert row.parameters_m is not None
    assert round(plane_row_cost(row).parameters / 1e6, 2) == row.parameters_m


def test_figures_name_measures_that_exist() -> None:
    for table in PLANE_TABLES:
        assert set(table.measures) <= set(LABELS)
        for row in table.rows:
            for measure, figure in row.figures.items():
                assert any(measure.endswith(name) for name in table.measures)
                assert figure.mean is not None and figure.notes >= 1


def test_public_data_stand_in_for_the_authors(tmp_path: Path) -> None:
    place = PlaneWorkplace(tmp_path, tmp_path / "runs", "cpu", 1, True, lambda line: None)
    row = PLANE_ROWS["table5_ag_sononet_8"]
    with pytest.raises(ConfigurationError, match=r"holds neither planes.hdf5 .* nor FETAL_PLANES_DB_data.csv"):
        place.config(row)

    (tmp_path / "FETAL_PLANES_DB_data.csv").touch()
    public = place.config(row)
    (tmp_path / "planes.hdf5").touch()
    authors = place.config(row)

    assert len(public.classes) == 6 and public.frame.crop == "sector"
    assert public.training[0].csv == public.validation[0].csv == tmp_path / "FETAL_PLANES_DB_data.csv"
    assert (public.training[0].official, public.validation[0].official) == (["train"], ["test"])
    assert len(authors.classes) == 14 and authors.training[0].hdf5 == tmp_path / "planes.hdf5"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All tables of planes in small."""
    folder = tmp_path_factory.mktemp("papers")
    for table in PLANE_TABLES:
        assert main(["reproduce", table.name, "--phantom", "--runs", str(folder), "--device", "cpu"]) == 0
    return folder


def read_csv(path: Path) -> dict[tuple[str, str], dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return {(line["row"], line["measure"]): line for line in csv.DictReader(file)}


@pytest.mark.slow
def test_every_row_has_our_figures_beside_the_papers(runs: Path) -> None:
    for table in PLANE_TABLES:
        lines = read_csv(runs / f"{table.name}.csv")
        assert {row for row, _ in lines} == {row.title for row in table.rows}
        assert "not done" not in {line["ours"] for line in lines.values()}
    lines = read_csv(runs / "table5.csv")
    assert lines["AG-Sononet-16", "forward time / Sononet-16"]["paper"] == "1.34"
    assert (
        lines["AG-Sononet-16", "parameters (M)"]["ours"] == lines["AG-Sononet-16", "parameters (M)"]["paper"] == "0.70"
    )
    assert lines["Sononet-8", "F1"]["paper"] == "unknown"


@pytest.mark.slow
def test_figures_are_those_of_the_evaluation_of_frames_never_trained_on(runs: Path) -> None:
    found = read_plane_evaluation(runs / "table5_ag_sononet_8-seed0" / "evaluation")

    assert {row.patient for row in found.rows} == {"100", "101", "102", "103"}
    whole, by_class = read_csv(runs / "table7.csv"), read_csv(runs / "table6.csv")
    assert whole["AG-Sononet-8", "accuracy"]["ours"] == f"{found.scores.accuracy:.3f}"
    scores = found.localisation()[-1]
    assert whole["AG-Sononet-8", "IOU"]["ours"] == f"{scores.iou:.3f} ± {scores.iou_sd:.3f}"
    femur = next(item for item in found.scores.classes if item.name == "Fetal femur")
    assert by_class["AG-Sononet-8", "Fetal femur recall"]["ours"] == f"{femur.recall:.3f}"


@pytest.mark.slow
def test_what_is_done_is_collected_without_training(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--phantom", "--collect", "--runs", str(runs), "--device", "cpu"]
    assert main(["reproduce", "table6", *options]) == 0
    printed = capsys.readouterr()
    assert "trains" not in printed.err and "tested" not in printed.err

    assert main(["reproduce", "table6", "--seeds", "2", *options]) == 1
    assert "Not all runs are done of: Sononet-8, AG-Sononet-8." in capsys.readouterr().out
    document = json.loads((runs / "table6.json").read_text(encoding="utf-8"))
    assert document["runs"]["table5_sononet_8"] == {"done": 1, "wanted": 2}
