"""Training configurations: YAML, validated when read. Here: segmentation."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal, overload

from pydantic import Field, ValidationError, model_validator

from AGTraining.bundle import Millimeters, OrganClass
from AGTraining.errors import ConfigurationError
from AGTraining.imaging.intensity import IntensityRule
from AGTraining.training.extends import Document, read_document
from AGTraining.training.run_config import NetworkSettings, RunConfig, Strict, from_folder

SIDES = {"left": "right", "right": "left", "lt": "rt", "rt": "lt", "l": "r", "r": "l"}
# A word of its own (kidney_left, "Left kidney", kidney_L), or the start or end of one in camel case (LeftKidney).
SIDE = re.compile(
    r"(?<![A-Za-z])(?i:left|right|lt|rt|l|r)(?![A-Za-z0-9])"
    r"|(?<![A-Za-z])(?:Left|Right)(?=[A-Z])|(?<=[a-z])(?:Left|Right)(?![a-z])"
)


class SegmentationNetwork(NetworkSettings):
    """A network for segmentation."""

    name: Literal["UNet3D", "AttentionUNet"] = "AttentionUNet"


class ClassSettings(OrganClass):
    """A network class: its terminology and the data set's label names that make it up."""

    labels: list[str] = Field(min_length=1)


class PhantomSettings(Strict):
    """Phantoms that are made when the run starts: their first seed, how many, and their spacing on all axes."""

    first: int = Field(0, ge=0)
    count: int = Field(ge=1)
    spacing_mm: Millimeters = 4.0


class SourceSettings(Strict):
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


class AugmentationSettings(Strict):
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


class TrainingConfig(RunConfig):
    """Everything that a run of segmentation depends on."""

    name: str = "attention-unet"
    task: Literal["segmentation"] = "segmentation"
    training: list[SourceSettings] = Field(min_length=1)
    validation: list[SourceSettings] = Field(default_factory=list)
    prepared: Path | None = Field(None, description="folder of prepared cases (default: beside the run's folder)")
    classes: list[ClassSettings] = Field(min_length=1)
    left_out: list[str] = Field(
        default_factory=list, description="classes whose output nodes are kept, but not used or trained (AFT)"
    )
    network: SegmentationNetwork = Field(default_factory=SegmentationNetwork)
    spacing_mm: tuple[Millimeters, Millimeters, Millimeters] = (2.0, 2.0, 2.0)
    intensity: IntensityRule = Field(default_factory=IntensityRule)
    crop: tuple[int, int, int] = Field((96, 160, 160), description="voxels along K, J, I; multiples of 16")
    augmentation: AugmentationSettings = Field(default_factory=AugmentationSettings)
    cross_entropy: float = Field(0.0, ge=0, description="its weight in the loss, that of Dice being 1")
    loss: Literal["dice", "cross_entropy", "dice_cross_entropy"] = "dice"

    @model_validator(mode="before")
    @classmethod
    def _spelled_out(cls, values: Any) -> Any:
        """`loss` and `cross_entropy` follow from each other."""
        if not isinstance(values, dict):
            return values
        values = dict(values)
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

    def place(self, base: Path, data: Path) -> None:
        """See `RunConfig`."""
        super().place(base, data)
        self.prepared = from_folder(base, self.prepared)
        for source in (*self.training, *self.validation):
            source.dataset, source.split = from_folder(data, source.dataset), from_folder(data, source.split)

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


@overload
def read_config(path: str | Path, data: str | Path | None = None) -> TrainingConfig: ...


@overload
def read_config(path: str | Path, data: str | Path | None = None, *, any_task: Literal[True]) -> RunConfig: ...


def read_config(path: str | Path, data: str | Path | None = None, *, any_task: bool = False) -> RunConfig:
    """Reads and validates a YAML configuration; relative paths in it start at its folder.

    A file may say only what differs from another one that its key `extends` names (see `extends`). Its key `task` says
    what is trained: organs (`segmentation`) or, where any_task is on, also `planes`.
    data: the folder where relative paths of data sets and splits start instead.
    Raises ConfigurationError with all keys that are wrong, each with its line.
    """
    path = Path(path)
    document = read_document(path)
    try:
        config = _kind(path, document.values.get("task", "segmentation"), any_task).model_validate(document.values)
    except ValidationError as error:
        wrong = "; ".join(_explained(item["loc"], item["msg"], document, path) for item in error.errors())
        raise ConfigurationError(f"{path}: {wrong}.") from error
    base = path.resolve().parent
    config.place(base, base if data is None else Path(data).resolve())
    return config


def _kind(path: Path, task: object, any_task: bool) -> type[RunConfig]:
    """The configuration class of a task; that of segmentation for an unknown one, which it refuses with the line."""
    if task != "planes":
        return TrainingConfig
    if not any_task:
        raise ConfigurationError(f"{path}: trains the detection of planes; this takes configurations of segmentation.")
    from AGTraining.training.planes_config import PlanesConfig

    return PlanesConfig


def _explained(location: tuple[str | int, ...], message: str, document: Document, path: Path) -> str:
    """A wrong key, what is wrong with it, and where it stands: in the file at path, or in one that it extends."""
    key = ".".join(str(part) for part in location) or "configuration"
    place = document.place(location)
    if place is None:
        return f"'{key}': {message}"
    file, line = place
    return f"'{key}': {message} ({'' if file == path else f'{file.name}, '}line {line})"
