"""Training configuration: YAML, validated when read."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from AGTraining.bundle import Millimeters, OrganClass
from AGTraining.errors import ConfigurationError
from AGTraining.imaging.intensity import IntensityRule


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class NetworkSettings(_Strict):
    """Network class of AGTraining.networks and its arguments."""

    name: Literal["UNet3D", "AttentionUNet"] = "AttentionUNet"
    arguments: dict[str, Any] = Field(default_factory=dict)


class ClassSettings(OrganClass):
    """A network class: its terminology and the data set's label names that make it up."""

    labels: list[str] = Field(min_length=1)


class SourceSettings(_Strict):
    """A data set: a dataset.json, and how often its cases are drawn relative to other sources."""

    dataset: Path
    weight: float = Field(1.0, gt=0)


class AugmentationSettings(_Strict):
    """Random changes of a training crop. Probabilities in [0, 1]; angles in degrees; sizes relative."""

    affine: float = Field(0.9, ge=0, le=1)
    rotate_degrees: float = Field(15.0, ge=0)
    scale: float = Field(0.15, ge=0, lt=1)
    shear: float = Field(0.05, ge=0)
    axial_flip: float = Field(0.0, ge=0, le=1, description="mirror left and right within axial slices")
    noise: float = Field(0.3, ge=0, le=1)
    blur: float = Field(0.2, ge=0, le=1)
    contrast: float = Field(0.5, ge=0, le=1)
    low_resolution: float = Field(0.2, ge=0, le=1)
    organ_centred: float = Field(0.5, ge=0, le=1, description="share of crops around a labelled voxel")


class TrainingConfig(_Strict):
    """Everything that a run depends on."""

    name: str = "attention-unet"
    output: Path
    training: list[SourceSettings] = Field(min_length=1)
    validation: list[SourceSettings] = Field(default_factory=list)
    classes: list[ClassSettings] = Field(min_length=1)
    network: NetworkSettings = Field(default_factory=NetworkSettings)
    initial_weights: Path | None = Field(None, description="bundle whose weights the run starts from")
    spacing_mm: tuple[Millimeters, Millimeters, Millimeters] = (2.0, 2.0, 2.0)
    intensity: IntensityRule = Field(default_factory=IntensityRule)
    crop: tuple[int, int, int] = Field((96, 160, 160), description="voxels along K, J, I; multiples of 16")
    augmentation: AugmentationSettings = Field(default_factory=AugmentationSettings)
    optimizer: Literal["adam"] = "adam"
    learning_rate: float = Field(1e-4, gt=0)
    schedule: Literal["constant", "cosine"] = "constant"
    warmup_steps: int = Field(0, ge=0)
    batch_size: int = Field(2, ge=1)
    gradient_averaging: int = Field(1, ge=1, description="batches averaged before each optimizer step")
    cross_entropy: float = Field(0.0, ge=0)
    epochs: int = Field(100, ge=1)
    steps_per_epoch: int = Field(50, ge=1)
    validate_every: int = Field(5, ge=1, description="epochs")
    seed: int = Field(0, ge=0)
    mixed_precision: bool = True
    workers: int = Field(2, ge=0)
    provenance: str = ""
    licence: str = "Apache-2.0"

    @model_validator(mode="after")
    def _crop_fits(self) -> TrainingConfig:
        if any(n % 16 or n < 32 for n in self.crop):
            raise ValueError(f"crop {self.crop}: each size must be a multiple of 16 and at least 32")
        return self

    @model_validator(mode="after")
    def _classes_differ(self) -> TrainingConfig:
        for what, names in (
            ("class name", [item.name for item in self.classes]),
            ("label", [label for item in self.classes for label in item.labels]),
        ):
            twice = [name for name in names if names.count(name) > 1]
            if twice:
                raise ValueError(f"classes: {what} '{twice[0]}' occurs twice")
        return self


def read_config(path: str | Path) -> TrainingConfig:
    """Reads and validates a YAML configuration; relative paths in it start at its folder.

    Raises ConfigurationError with the line (YAML) or the key (values) that is wrong.
    """
    path = Path(path)
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read ({error.strerror}).") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(document, dict):
        raise ConfigurationError(f"{path}: expected keys and values, such as 'output: runs/first'.")
    try:
        config = TrainingConfig.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "configuration"
        raise ConfigurationError(f"{path}: '{key}': {first['msg']}.") from error
    base = path.resolve().parent
    config.output = base / config.output
    for source in (*config.training, *config.validation):
        source.dataset = base / source.dataset
    if config.initial_weights is not None:
        config.initial_weights = base / config.initial_weights
    return config
