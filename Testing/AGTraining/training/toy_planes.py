"""Small runs on few synthetic frames, shared by the tests of training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from AGTraining import bundle
from AGTraining.training.planes_config import PlanesConfig

CLASSES = [
    {"name": "background", "background": True, "labels": ["Other"]},
    {"name": "brain", "labels": ["Fetal brain"]},
    {"name": "abdomen", "labels": ["Fetal abdomen"]},
    {"name": "femur", "labels": ["Fetal femur"]},
]


def plane_settings(table: Path, output: Path, **changes: Any) -> dict[str, Any]:
    return {
        "name": "toy-planes",
        "task": "planes",
        "output": str(output),
        "prepared": str(table.parent.parent / "prepared"),
        "training": [{"csv": str(table), "official": "train"}],
        "validation": [{"csv": str(table), "official": "test"}],
        "classes": CLASSES,
        "frame": {"size": [32, 48], "crop": "centre"},
        "network": {"name": "AGSononet", "arguments": {"features": 2, "convs": [1, 1, 1, 1, 1]}},
        "learning_rate": 0.05,
        "batch_size": 4,
        "epochs": 4,
        "steps_per_epoch": 3,
        "validate_every": 2,
        "workers": 0,
        **changes,
    }


def make_plane_config(table: Path, output: Path, **changes: Any) -> PlanesConfig:
    return PlanesConfig.model_validate(plane_settings(table, output, **changes))


def save_planes(
    path: Path,
    classes: list[dict[str, Any]],
    network: str = "Sononet",
    size: tuple[int, int] = (32, 48),
    **arguments: Any,
) -> Path:
    """A model of planes with random weights."""
    arguments = {"num_classes": len(classes), "features": 2, "convs": [1, 1, 1, 1, 1], **arguments}
    info = bundle.PlanesInfo(
        name="given",
        network=network,
        arguments=arguments,
        frame={"size": size, "crop": "centre"},
        classes=[{key: value for key, value in item.items() if key != "labels"} for item in classes],
        licence="CC0",
    )
    bundle.save(path, bundle.NETWORKS[network](**arguments), info)
    return path
