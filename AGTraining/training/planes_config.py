"""What a run of planes depends on: frames, classes, network, loss and teacher."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from AGTraining.bundle import PlaneClass
from AGTraining.data.planes.settings import PlaneAugmentationSettings, PlaneSourceSettings, SamplingSettings
from AGTraining.imaging.frame_rule import FrameRule
from AGTraining.training.run_config import NetworkSettings, ReportSettings, RunConfig, Strict, from_folder


class PlaneNetworkSettings(NetworkSettings):
    """A network for planes."""

    name: Literal["Sononet", "AGSononet"] = "AGSononet"


class PlaneClassSettings(PlaneClass):
    """A network class and the data sets' labels that make it up; without any, its name is the label."""

    labels: list[str] = Field(default_factory=list)


class PlaneGroupSettings(Strict):
    """Labels that say less than the classes: a frame that has one shows one of the classes `of`, not known which.

    Its loss is −log of the probabilities' sum over these classes, as for partly labelled scans.
    """

    name: str
    of: list[str] = Field(min_length=2)
    labels: list[str] = Field(default_factory=list)

    @property
    def background(self) -> bool:
        """Whether it is what no standard plane is: never."""
        return False


class TeacherSettings(Strict):
    """A model whose probabilities are trained on too (Hinton et al. 2015).

    weight: w of w·T²·KL + (1 − w)·cross-entropy for labelled frames; of others, T²·KL alone. temperature: T.
    hint: weight of the teacher's features, which the network's last block is to have too (see `hints`).
    classes: names of the teacher's classes that are other classes here, as {theirs: ours}.
    """

    bundle: Path
    weight: float = Field(0.5, gt=0, le=1)
    temperature: float = Field(2.0, gt=0)
    hint: float = Field(0.0, ge=0)
    classes: dict[str, str] = Field(default_factory=dict)


class PlanesConfig(RunConfig):
    """Everything that a run of planes depends on. The defaults are the paper's (Schlemper et al. 2019, section 4.2)."""

    name: str = "ag-sononet"
    task: Literal["planes"] = "planes"
    training: list[PlaneSourceSettings] = Field(min_length=1)
    validation: list[PlaneSourceSettings] = Field(default_factory=list)
    prepared: Path | None = Field(None, description="folder of prepared frames (default: beside the run's folder)")
    classes: list[PlaneClassSettings] = Field(min_length=2)
    groups: list[PlaneGroupSettings] = Field(default_factory=list, description="labels that stand for several classes")
    frame: FrameRule = Field(default_factory=FrameRule)
    network: PlaneNetworkSettings = Field(default_factory=PlaneNetworkSettings)
    sampling: SamplingSettings = Field(default_factory=SamplingSettings)
    augmentation: PlaneAugmentationSettings = Field(default_factory=PlaneAugmentationSettings)
    strong_augmentation: PlaneAugmentationSettings | None = Field(
        None, description="of frames without a label, which the teacher tells the classes of (default: augmentation)"
    )
    teacher: TeacherSettings | None = None
    fused_from_epoch: int = Field(
        0,
        ge=0,
        description="epochs in which each scale has a loss of its own (deep supervision); after them the fused one",
    )
    frozen: Literal["nothing", "blocks"] = Field(
        "nothing", description="blocks: the convolution blocks keep their initial weights; gates and heads are trained"
    )
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="share of the target that all classes have alike")
    optimizer: Literal["adam", "sgd"] = "sgd"
    learning_rate: float = Field(0.1, gt=0)
    batch_size: int = Field(64, ge=1, description="of each process")
    report: ReportSettings = Field(default_factory=lambda: ReportSettings(cases=6))

    @model_validator(mode="after")
    def _classes_differ(self) -> PlanesConfig:
        names = [item.name for item in self.targets]
        labels = [label for item in self.targets for label in item.labels or (item.name,)]
        for what, words in (("name", names), ("label", labels)):
            keys = [word.strip().casefold() for word in words]
            twice = [word for word, key in zip(words, keys, strict=True) if keys.count(key) > 1]
            if twice:
                more = "; labels of several classes belong into 'groups'" if what == "label" else ""
                raise ValueError(f"classes: {what} '{twice[0]}' occurs twice{more}")
        if sum(item.background for item in self.classes) > 1:
            raise ValueError("classes: more than one is background; give its 'labels' all that belongs to it")
        known = {item.name for item in self.classes}
        for group in self.groups:
            unknown = [name for name in group.of if name not in known]
            if unknown:
                raise ValueError(f"groups: '{unknown[0]}' of '{group.name}' is none of the classes")
        return self

    @model_validator(mode="after")
    def _phases_are_possible(self) -> PlanesConfig:
        fuses = self.network.name == "AGSononet" and self.network.arguments.get("aggregation", "ft") == "ft"
        if self.fused_from_epoch and not fuses:
            raise ValueError("fused_from_epoch: only the aggregation 'ft' of an AGSononet has a layer that is fused")
        if self.sampling.unlabelled_share and self.teacher is None:
            raise ValueError("sampling.unlabelled_share: only a teacher can say what frames without a label show")
        if self.compile and self.teacher is not None and self.teacher.hint:
            raise ValueError(
                "teacher.hint: a compiled network does not show its layers; leave out compile, or the hint"
            )
        if self.frozen == "blocks" and self.initial_weights is None:
            raise ValueError("frozen: random weights would be kept; name the model with theirs as initial_weights")
        return self

    @property
    def targets(self) -> Sequence[PlaneClassSettings | PlaneGroupSettings]:
        """What a frame may be labelled as: the classes, in the order of the outputs, and the groups behind them."""
        return [*self.classes, *self.groups]

    @property
    def need_frames(self) -> list[bool]:
        """Which of the targets must have frames: no group, and no class that a teacher or a group tells of."""
        grouped = {name for group in self.groups for name in group.of}
        classes = [self.teacher is None and item.name not in grouped for item in self.classes]
        return [*classes, *(False for _ in self.groups)]

    def place(self, base: Path, data: Path) -> None:
        """See `RunConfig`."""
        super().place(base, data)
        self.prepared = from_folder(base, self.prepared)
        if self.teacher is not None:
            self.teacher.bundle = base / self.teacher.bundle
        for source in (*self.training, *self.validation):
            for name in ("folder", "csv", "hdf5", "frames", "images"):
                setattr(source, name, from_folder(data, getattr(source, name)))
            if source.split is not None:
                source.split.file = from_folder(data, source.split.file)
