"""What a model file says of its model: the document of a bundle, one kind for each task."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator

from AGTraining.bundle_file import FORMAT_VERSION
from AGTraining.imaging.frame_rule import FrameRule
from AGTraining.imaging.intensity import IntensityRule
from AGTraining.labels import OutputLabel, output_labels

Millimeters = Annotated[FiniteFloat, Field(gt=0)]
ColorChannel = Annotated[int, Field(ge=0, le=255)]


class OrganClass(BaseModel):
    """A foreground class of a network, with SNOMED CT codes as in Slicer's General Anatomy list.

    paired: the class holds a left and a right organ, which are told apart by anatomy after the network.
    usual_ml: smallest and largest volume in nearly all adults (of one side, when paired); beyond it the user is asked
        to check the result.
    """

    model_config = ConfigDict(extra="forbid")

    name: str
    category_code: str = "123037004"
    category_meaning: str = "Anatomical Structure"
    type_code: str
    type_meaning: str
    color: tuple[ColorChannel, ColorChannel, ColorChannel]
    paired: bool = False
    usual_ml: tuple[float, float] | None = None


class PlaneClass(BaseModel):
    """An output of a plane network: a standard plane, or the background (whatever is no standard plane).

    meaning: the plane in words, for users who do not know its short name.
    """

    model_config = ConfigDict(extra="forbid")

    name: str = Field(pattern=r"\S")
    background: bool = False
    meaning: str = ""


class _ModelInfo(BaseModel):
    """What the models of all tasks say.

    network, arguments: class of AGTraining.networks and its arguments. provenance: data, commit, date, seed.
    metrics: what was measured, and on what.
    """

    model_config = ConfigDict(extra="forbid")

    format_version: int = FORMAT_VERSION
    name: str
    network: str
    arguments: dict[str, Any] = Field(default_factory=dict)
    provenance: dict[str, Any] = Field(default_factory=dict)
    metrics: dict[str, Any] = Field(default_factory=dict)
    licence: str


class BundleInfo(_ModelInfo):
    """The document of a model that segments volumes.

    spacing_mm: model grid along x, y, z. classes: foreground classes in the order of the network's outputs (output 0 is
    the background). mirror_axes: patient axes along which it saw mirrored images in training. The rest as `PlanesInfo`.
    """

    task: Literal["segmentation"] = "segmentation"
    spacing_mm: tuple[Millimeters, Millimeters, Millimeters]
    intensity: IntensityRule
    classes: list[OrganClass]
    mirror_axes: tuple[Literal["x", "y", "z"], ...] = ()

    @property
    def output_labels(self) -> tuple[OutputLabel, ...]:
        """The values of the label map, 1 and up: a paired class gives two, right before left."""
        return output_labels(organ.model_dump() for organ in self.classes)


class PlanesInfo(_ModelInfo):
    """The document of a model that finds standard planes.

    network, arguments: class of AGTraining.networks and its arguments. frame: from a frame to the network's input.
    classes: one for each output of the network in their order, the background included; at most one is background.
    provenance: data, commit, date, seed. metrics: what was measured, and on what.
    """

    task: Literal["planes"] = "planes"
    frame: FrameRule
    classes: list[PlaneClass] = Field(min_length=2)

    @model_validator(mode="after")
    def _classes_differ(self) -> PlanesInfo:
        names = [plane.name for plane in self.classes]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"classes: the name '{twice}' occurs twice")
        if sum(plane.background for plane in self.classes) > 1:
            raise ValueError("classes: more than one is background")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the classes in the order of the network's outputs."""
        return tuple(plane.name for plane in self.classes)

    @property
    def background(self) -> int | None:
        """The number of the output that stands for the background; None where all are planes."""
        return next((number for number, plane in enumerate(self.classes) if plane.background), None)


ModelInfo = BundleInfo | PlanesInfo
INFO_OF_TASK: dict[str, type[BundleInfo] | type[PlanesInfo]] = {"segmentation": BundleInfo, "planes": PlanesInfo}
