"""What a configuration says about labelled frames: where they are, how they are drawn, how they are changed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Share = Annotated[float, Field(ge=0, le=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class ColumnSettings(_Strict):
    """Names of a table's columns, where they are not among those that are known (see `csv_table`).

    label: one column, or several from the general to the particular ("Fetal brain", "Trans-ventricular").
    box: left, top, right and bottom edge in pixels of the frame.
    """

    file: str | None = None
    label: str | list[str] | None = None
    patient: str | None = None
    part: str | None = None
    box: tuple[str, str, str, str] | None = None


class PhantomFrameSettings(_Strict):
    """Synthetic frames that are made when the run starts: first seed, patients, and frames of each class of each."""

    first: int = Field(0, ge=0)
    patients: int = Field(ge=1)
    frames: int = Field(2, ge=1)


class PatientSplitSettings(_Strict):
    """Which patients of a source are taken. Frames of one patient never lie in two parts.

    Either file (a splits.json of patients, with the number of its fold), or folds (how many, and which one is
    validated on), or share (of the frames, to validate on). part None: the one that the source is listed under.
    """

    file: Path | None = None
    folds: int | None = Field(None, ge=2)
    fold: int = Field(0, ge=0)
    share: float | None = Field(None, gt=0, lt=1)
    seed: int = Field(0, ge=0)
    part: Literal["training", "validation"] | None = None

    @model_validator(mode="after")
    def _one_way(self) -> PatientSplitSettings:
        if sum(way is not None for way in (self.file, self.folds, self.share)) != 1:
            raise ValueError("give one of 'file', 'folds' and 'share'")
        if self.folds is not None and self.fold >= self.folds:
            raise ValueError(f"there is no fold {self.fold} of {self.folds}; folds are counted from 0")
        return self


class PlaneSourceSettings(_Strict):
    """A set of frames, and how often its frames are drawn relative to those of other sources.

    One of: folder (a subfolder for each class), csv (a table), hdf5 (the authors' layout), frames (a folder of frames
    or clips without labels) and phantoms.

    images: folder of a table's files (default: the table's own, or `Images` in it).
    label: of all frames that have none. left_out: labels whose frames are not taken.
    official: the values of the data set's own split column (of HDF5: its parts) that are taken.
    patient_pattern: a regular expression whose first group is the patient in a file's name.
    labelled: false leaves all labels out, as for a teacher. licence: of the frames, where their files do not say it.
    """

    folder: Path | None = None
    csv: Path | None = None
    hdf5: Path | None = None
    frames: Path | None = None
    phantoms: PhantomFrameSettings | None = None
    images: Path | None = None
    columns: ColumnSettings = Field(default_factory=ColumnSettings)
    label: str | None = Field(None, min_length=1)
    left_out: list[str] = Field(default_factory=list)
    official: list[str] | None = None
    patient_pattern: str | None = None
    labelled: bool = True
    licence: str | None = Field(None, min_length=1)
    split: PatientSplitSettings | None = None
    weight: float = Field(1.0, gt=0)

    @field_validator("official", mode="before")
    @classmethod
    def _one_or_several(cls, value: object) -> object:
        return [str(value)] if isinstance(value, str | int) else value

    @field_validator("patient_pattern")
    @classmethod
    def _has_a_group(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                groups = re.compile(value).groups
            except re.error as error:
                raise ValueError(f"'{value}' is no regular expression ({error})") from error
            if groups != 1:
                raise ValueError(f"'{value}' needs one group in parentheses, which is the patient")
        return value

    @model_validator(mode="after")
    def _one_origin(self) -> PlaneSourceSettings:
        origins = (self.folder, self.csv, self.hdf5, self.frames, self.phantoms)
        if sum(origin is not None for origin in origins) != 1:
            raise ValueError("give one of 'folder', 'csv', 'hdf5', 'frames' and 'phantoms'")
        return self


class SamplingSettings(_Strict):
    """How often frames are drawn.

    background_share: of the draws of labelled frames that are of background classes (Schlemper et al. 2019: half).
    balance: 1 draws all other classes equally often, 0 as often as they have frames, values between lie between.
    unlabelled_share: of all draws that are of frames without a class.
    """

    background_share: Share | None = Field(0.5, description="None: background is a class like others")
    balance: Share = 1.0
    unlabelled_share: Share = 0.0


class PlaneAugmentationSettings(_Strict):
    """Random changes of a frame. Probabilities in [0, 1]; angles in degrees; sizes relative to the input's.

    The defaults of the affine part are those of the authors' configurations (rotate 25, scale 0.7 to 1.3, shift 0.02).
    """

    flip: Share = Field(0.5, description="left and right exchanged")
    vertical_flip: Share = 0.0
    affine: Share = Field(1.0, description="probability of rotation, scale and shift")
    rotate_degrees: float = Field(25.0, ge=0, le=180)
    scale: float = Field(0.3, ge=0, lt=1)
    aspect: float = Field(0.0, ge=0, lt=1, description="of one axis against the other")
    shift: float = Field(0.02, ge=0, le=1)
    zoom: Share = Field(0.0, description="probability of a strong crop in place of scale and shift")
    zoom_most: float = Field(3.0, ge=1)
    gain: Share = Field(0.5, description="probability of gain, contrast and gamma")
    gain_most: float = Field(0.3, ge=0, lt=1)
    gamma_most: float = Field(0.4, ge=0, lt=1)
    speckle: Share = 0.2
    speckle_most: float = Field(0.35, ge=0)
    blur: Share = 0.2
    shadow: Share = Field(0.2, description="probability of a dark wedge below a point near the probe")
    mixup: Share = Field(0.0, description="of unlabelled frames: blended with another one")
    cutmix: Share = Field(0.0, description="of unlabelled frames: a rectangle of another one pasted in")

    @model_validator(mode="after")
    def _one_way_of_mixing(self) -> PlaneAugmentationSettings:
        if self.mixup + self.cutmix > 1:
            raise ValueError("mixup and cutmix together are more than 1")
        return self
