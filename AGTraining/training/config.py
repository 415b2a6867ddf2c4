"""Training configuration: YAML, validated when read."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from AGTraining.bundle import Millimeters, OrganClass
from AGTraining.errors import ConfigurationError
from AGTraining.imaging.intensity import IntensityRule
from AGTraining.training.extends import Document, read_document

SIDES = {"left": "right", "right": "left", "lt": "rt", "rt": "lt", "l": "r", "r": "l"}
# A word of its own (kidney_left, "Left kidney", kidney_L), or the start or end of one in camel case (LeftKidney).
SIDE = re.compile(
    r"(?<![A-Za-z])(?i:left|right|lt|rt|l|r)(?![A-Za-z0-9])"
    r"|(?<![A-Za-z])(?:Left|Right)(?=[A-Z])|(?<=[a-z])(?:Left|Right)(?![a-z])"
)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class NetworkSettings(_Strict):
    """Network class of AGTraining.networks and its arguments."""

    name: Literal["UNet3D", "AttentionUNet"] = "AttentionUNet"
    arguments: dict[str, Any] = Field(default_factory=dict)


class ClassSettings(OrganClass):
    """A network class: its terminology and the data set's label names that make it up."""

    labels: list[str] = Field(min_length=1)


class PhantomSettings(_Strict):
    """Phantoms that are made when the run starts: their first seed, how many, and their spacing on all axes."""

    first: int = Field(0, ge=0)
    count: int = Field(ge=1)
    spacing_mm: Millimeters = 4.0


class SourceSettings(_Strict):
    """A data set, and how often its cases are drawn relative to other sources.

    Either dataset (a dataset.json or its folder) or phantoms. split: a splits.json by which only the cases of one part
    of one fold are taken; part None: the one that the source is listed under.
    """

    dataset: Path | None = None
    phantoms: PhantomSettings | None = None
    weight: float = Field(1.0, gt=0)
    split: Path | None = None
    fold: int = Field(0, ge=0)
    part: Literal["training", "validation"] | None = None

    @model_validator(mode="after")
    def _one_origin(self) -> SourceSettings:
        if (self.dataset is None) == (self.phantoms is None):
            raise ValueError("give either 'dataset' or 'phantoms'")
        return self


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
    on_gpu: bool = Field(True, description="do it on the GPU when there is one")


class ReportSettings(_Strict):
    """What the report shows of fixed validation cases.

    attention_epochs: when the attention coefficients are kept (Oktay et al. 2018, figure 6); the last epoch always is.
    cases: how many validation cases are shown.
    """

    attention_epochs: list[Annotated[int, Field(ge=1)]] = Field(default_factory=lambda: [3, 6, 10, 60, 150])
    cases: int = Field(2, ge=0)


class TrainingConfig(_Strict):
    """Everything that a run depends on."""

    name: str = "attention-unet"
    task: Literal["segmentation"] = "segmentation"
    output: Path
    training: list[SourceSettings] = Field(min_length=1)
    validation: list[SourceSettings] = Field(default_factory=list)
    prepared: Path | None = Field(None, description="folder of prepared cases (default: beside the run's folder)")
    classes: list[ClassSettings] = Field(min_length=1)
    left_out: list[str] = Field(
        default_factory=list, description="classes whose output nodes are kept, but not used or trained (AFT)"
    )
    network: NetworkSettings = Field(default_factory=NetworkSettings)
    initial_weights: Path | None = Field(None, description="bundle whose weights the run starts from")
    initial_match: Literal["exact", "common"] = Field(
        "exact", description="common: take every weight that both networks have, as an Attention U-Net of a U-Net"
    )
    gate_warmup_epochs: int = Field(0, ge=0, description="epochs in which gates stay as they are at first: open")
    spacing_mm: tuple[Millimeters, Millimeters, Millimeters] = (2.0, 2.0, 2.0)
    intensity: IntensityRule = Field(default_factory=IntensityRule)
    crop: tuple[int, int, int] = Field((96, 160, 160), description="voxels along K, J, I; multiples of 16")
    augmentation: AugmentationSettings = Field(default_factory=AugmentationSettings)
    optimizer: Literal["adam", "sgd"] = "adam"
    learning_rate: float = Field(1e-4, gt=0)
    momentum: float = Field(0.9, ge=0, lt=1, description="of SGD")
    nesterov: bool = Field(True, description="of SGD")
    weight_decay: float = Field(0.0, ge=0)
    schedule: Literal["constant", "cosine"] = "constant"
    warmup_steps: int = Field(0, ge=0)
    batch_size: int = Field(2, ge=1, description="of each process")
    gradient_averaging: int = Field(1, ge=1, description="batches averaged before each optimizer step")
    cross_entropy: float = Field(0.0, ge=0, description="its weight in the loss, that of Dice being 1")
    loss: Literal["dice", "cross_entropy", "dice_cross_entropy"] = "dice"
    ema: float = Field(0.0, ge=0, lt=1, description="decay a step of the averaged weights that are kept; 0: none")
    epochs: int = Field(100, ge=1)
    steps_per_epoch: int = Field(50, ge=1)
    validate_every: int = Field(5, ge=1, description="epochs")
    early_stop: int = Field(0, ge=0, description="validations without a better mean DSC that end the run; 0: never")
    checkpoint_minutes: float = Field(10.0, ge=0, description="between checkpoints within an epoch; 0: none")
    checkpoint_steps: int = Field(0, ge=0, description="between checkpoints within an epoch; 0: none")
    seed: int = Field(0, ge=0)
    deterministic: bool = Field(
        False,
        description="algorithms that repeat their results where the device has them; bit for bit on the CPU alone",
    )
    mixed_precision: Literal["auto", "off", "bf16", "fp16"] = "auto"
    channels_last: bool = True
    compile: bool = False
    synchronised_batch_norm: bool = Field(False, description="statistics over the batches of all processes")
    workers: int = Field(2, ge=0, description="processes that load samples")
    loader_memory_mib: int = Field(1024, ge=1, description="for samples that wait, all workers together")
    report: ReportSettings = Field(default_factory=ReportSettings)
    provenance: str = ""
    licence: str = "Apache-2.0"

    @model_validator(mode="before")
    @classmethod
    def _spelled_out(cls, values: Any) -> Any:
        """`loss` and `cross_entropy` follow from each other; YAML reads the word off as False."""
        if not isinstance(values, dict):
            return values
        values = dict(values)
        if isinstance(values.get("mixed_precision"), bool):
            values["mixed_precision"] = "auto" if values["mixed_precision"] else "off"
        weight = values.get("cross_entropy", 0.0)
        if "loss" not in values and isinstance(weight, int | float) and weight > 0:
            values["loss"] = "dice_cross_entropy"
        elif "cross_entropy" not in values and values.get("loss", "dice") != "dice":
            values["cross_entropy"] = 1.0
        return values

    @model_validator(mode="after")
    def _loss_is_meant(self) -> TrainingConfig:
        if (self.loss == "dice") != (self.cross_entropy == 0):
            raise ValueError(f"loss '{self.loss}' does not go with a weight of cross_entropy of {self.cross_entropy:g}")
        return self

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

    @model_validator(mode="after")
    def _left_out_classes_are_kept(self) -> TrainingConfig:
        names = [item.name for item in self.classes]
        unknown = [name for name in self.left_out if name not in names]
        if unknown:
            raise ValueError(f"left_out: '{unknown[0]}' is none of the classes ({', '.join(names)})")
        if set(self.left_out) == set(names):
            raise ValueError("left_out: names all classes; leave one to train")
        if self.left_out and self.weight_decay > 0:
            raise ValueError("left_out: weight_decay would change the output nodes that are left out; set it to 0")
        return self

    @model_validator(mode="after")
    def _flips_keep_the_classes(self) -> TrainingConfig:
        """A mirrored scan has its left kidney where the right one was: as a class of its own it would be mislearned."""
        for item in self.classes if self.augmentation.axial_flip > 0 else ():
            if is_one_sided(item):
                raise ValueError(
                    f"augmentation.axial_flip: mirrors left and right, which class '{item.name}' tells apart; "
                    "set it to 0, or make one class of both sides ('paired: true' names the sides again)"
                )
        return self

    @model_validator(mode="after")
    def _parts_are_named(self) -> TrainingConfig:
        for sources, part in ((self.training, "training"), (self.validation, "validation")):
            for source in sources:
                if source.split is not None and source.part is None:
                    source.part = part  # type: ignore[assignment]
        return self

    @property
    def trained_classes(self) -> list[ClassSettings]:
        """The classes but those that are left out."""
        return [item for item in self.classes if item.name not in self.left_out]


def is_one_sided(item: ClassSettings) -> bool:
    """Whether a class is the left or the right organ alone, as its label names or, without sides there, its own say."""
    sided = [label for label in item.labels if SIDE.search(label)]
    if sided:
        labels = {label.lower() for label in item.labels}
        return any(_mirrored(label) not in labels for label in sided)
    return any(SIDE.search(text) for text in (item.name, item.type_meaning))


def _mirrored(label: str) -> str:
    """A label's name, in small letters, with left and right exchanged."""
    return SIDE.sub(lambda found: SIDES[found.group().lower()], label).lower()


def read_config(path: str | Path, data: str | Path | None = None) -> TrainingConfig:
    """Reads and validates a YAML configuration; relative paths in it start at its folder.

    A file may say only what differs from another one that its key `extends` names (see `extends`).
    data: the folder where relative paths of data sets and splits start instead.
    Raises ConfigurationError with all keys that are wrong, each with its line.
    """
    path = Path(path)
    document = read_document(path)
    try:
        config = TrainingConfig.model_validate(document.values)
    except ValidationError as error:
        wrong = "; ".join(_explained(item["loc"], item["msg"], document, path) for item in error.errors())
        raise ConfigurationError(f"{path}: {wrong}.") from error
    base = path.resolve().parent
    data = base if data is None else Path(data).resolve()
    config.output = base / config.output
    config.initial_weights = _from(base, config.initial_weights)
    config.prepared = _from(base, config.prepared)
    for source in (*config.training, *config.validation):
        source.dataset, source.split = _from(data, source.dataset), _from(data, source.split)
    return config


def _explained(location: tuple[str | int, ...], message: str, document: Document, path: Path) -> str:
    """A wrong key, what is wrong with it, and where it stands: in the file at path, or in one that it extends."""
    key = ".".join(str(part) for part in location) or "configuration"
    place = document.place(location)
    if place is None:
        return f"'{key}': {message}"
    file, line = place
    return f"'{key}': {message} ({'' if file == path else f'{file.name}, '}line {line})"


def _from(base: Path, path: Path | None) -> Path | None:
    return None if path is None else base / path
