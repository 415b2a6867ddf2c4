"""Small models of planes for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from AGTraining import bundle
from AGTraining.bundle import FrameRule, PlaneClass, PlanesInfo
from AGTraining.networks import AGSononet, Sononet

ARGUMENTS = {"num_classes": 3, "features": 2}
CLASSES = [
    PlaneClass(name="Background", background=True),
    PlaneClass(name="Brain", meaning="transverse brain – größer"),
    PlaneClass(name="Femur"),
]


def planes_network(kind: type[Sononet] | type[AGSononet] = AGSononet, **arguments: Any) -> Sononet | AGSononet:
    """A seeded network in evaluation mode with batch norm statistics that an untrained one does not have."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = kind(**{**ARGUMENTS, **arguments}).eval()
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.running_mean, -0.5, 0.5)
                nn.init.uniform_(module.running_var, 0.5, 2)
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias)
    return network


def planes_info(**changes: Any) -> PlanesInfo:
    """What its file says."""
    values = {
        "name": "tiny planes",
        "network": "AGSononet",
        "arguments": ARGUMENTS,
        "frame": FrameRule(size=(32, 48)),
        "classes": CLASSES,
        "licence": "Apache-2.0",
    }
    return PlanesInfo.model_validate(values | changes)


def planes_file(path: Path, **changes: Any) -> Path:
    """A model file of it."""
    bundle.save(path, planes_network(**changes.get("arguments", {})), planes_info(**changes), half=False)
    return path
