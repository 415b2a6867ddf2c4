"""The tables of planes in small: tiny networks, few steps, synthetic frames. It shows that all runs."""

from __future__ import annotations

from AGTraining.data.planes.phantom import BACKGROUND, PLANES
from AGTraining.data.planes.settings import PhantomFrameSettings, PlaneSourceSettings
from AGTraining.training.planes_config import PlaneClassSettings, PlanesConfig

SIZE = (64, 80)
NARROWER = 4
TRAINED = PhantomFrameSettings(first=0, patients=6, frames=1)
TESTED = PhantomFrameSettings(first=100, patients=4, frames=1)


def planes_made_small(config: PlanesConfig) -> PlanesConfig:
    """The same run with a quarter of the channels, on small synthetic frames, for a few steps."""
    config = config.model_copy(deep=True)
    config.training = [PlaneSourceSettings(phantoms=TRAINED)]
    config.validation = [PlaneSourceSettings(phantoms=TESTED)]
    config.classes = [PlaneClassSettings(name=name, background=name == BACKGROUND) for name in PLANES]
    config.frame = config.frame.model_copy(update={"size": SIZE, "share": 1.0})
    config.network.arguments["features"] = int(config.network.arguments["features"]) // NARROWER
    config.batch_size = 8
    # Two epochs where scales are trained by themselves first, so that both kinds of loss are run.
    config.fused_from_epoch = min(config.fused_from_epoch, 1)
    config.epochs = config.validate_every = 1 + config.fused_from_epoch
    config.steps_per_epoch = 2
    config.warmup_epochs = 0
    config.warmup_learning_rate = None
    config.learning_rate = 0.01
    config.mixed_precision = "off"
    config.workers = 0
    config.report.cases = 0
    return config
