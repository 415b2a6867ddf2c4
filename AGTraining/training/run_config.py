"""What every training configuration says, whatever its task."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Strict(BaseModel):
    """Settings of which none is unknown and no number is infinite."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class NetworkSettings(Strict):
    """A network class of AGTraining.networks and its arguments; each task names those that it trains."""

    name: str
    arguments: dict[str, Any] = Field(default_factory=dict)


class ReportSettings(Strict):
    """What the report shows of fixed validation cases.

    attention_epochs: when the attention coefficients are kept (Oktay et al. 2018, figure 6); the last epoch always is.
    cases: how many validation cases are shown.
    """

    attention_epochs: list[Annotated[int, Field(ge=1)]] = Field(default_factory=lambda: [3, 6, 10, 60, 150])
    cases: int = Field(2, ge=0)


class RunConfig(Strict):
    """All that the trainer needs to know of a run; each task adds its data, classes, network and loss."""

    name: str
    task: str
    output: Path
    network: NetworkSettings
    initial_weights: Path | None = Field(None, description="bundle whose weights the run starts from")
    initial_match: Literal["exact", "common"] = Field(
        "exact", description="common: take every weight that both networks have, as an Attention U-Net of a U-Net"
    )
    gate_warmup_epochs: int = Field(0, ge=0, description="epochs in which gates stay as they are at first: open")
    optimizer: Literal["adam", "sgd"] = "adam"
    learning_rate: float = Field(1e-4, gt=0)
    momentum: float = Field(0.9, ge=0, lt=1, description="of SGD")
    nesterov: bool = Field(True, description="of SGD")
    weight_decay: float = Field(0.0, ge=0)
    schedule: Literal["constant", "cosine", "step"] = "constant"
    decay_epochs: int | None = Field(None, ge=1, description="of 'step': epochs between two changes of the rate")
    decay_factor: float = Field(0.1, gt=0, lt=1, description="of 'step': what the rate is multiplied by")
    warmup_steps: int = Field(0, ge=0, description="optimizer steps in which the rate rises from 0")
    warmup_epochs: int = Field(0, ge=0, description="first epochs, which have a rate of their own")
    warmup_learning_rate: float | None = Field(None, gt=0, description="of these epochs")
    batch_size: int = Field(2, ge=1, description="of each process")
    gradient_averaging: int = Field(1, ge=1, description="batches averaged before each optimizer step")
    ema: float = Field(0.0, ge=0, lt=1, description="decay a step of the averaged weights that are kept; 0: none")
    epochs: int = Field(100, ge=1)
    steps_per_epoch: int = Field(50, ge=1)
    validate_every: int = Field(5, ge=1, description="epochs")
    early_stop: int = Field(0, ge=0, description="validations without a better mean score that end the run; 0: never")
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
    def _off_is_a_word(cls, values: Any) -> Any:
        """YAML reads the word off as False."""
        if isinstance(values, dict) and isinstance(values.get("mixed_precision"), bool):
            return {**values, "mixed_precision": "auto" if values["mixed_precision"] else "off"}
        return values

    @model_validator(mode="after")
    def _schedule_is_complete(self) -> RunConfig:
        if (self.schedule == "step") != (self.decay_epochs is not None):
            raise ValueError("schedule 'step' and 'decay_epochs' go together; give both or neither")
        if (self.warmup_epochs > 0) != (self.warmup_learning_rate is not None):
            raise ValueError("warmup_epochs and warmup_learning_rate go together; give both or neither")
        if self.warmup_epochs and self.warmup_steps:
            raise ValueError("give either warmup_steps or warmup_epochs, not both")
        return self

    def place(self, base: Path, data: Path) -> None:
        """Makes relative paths absolute: those of data start at `data`, the others at `base`."""
        self.output = (base / self.output).resolve()
        self.initial_weights = from_folder(base, self.initial_weights)


def from_folder(base: Path, path: Path | None) -> Path | None:
    """The path, which starts at `base` where it is relative."""
    return None if path is None else base / path
