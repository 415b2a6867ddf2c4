"""The network that a run starts with."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from torch import nn
from tqdm import tqdm

from AGTraining import bundle
from AGTraining.errors import ConfigurationError
from AGTraining.networks.unet import UNet3D
from AGTraining.training.config import TrainingConfig
from AGTraining.training.run_config import RunConfig


def build_network(config: TrainingConfig) -> UNet3D:
    """The configuration's network, new or with the weights of `initial_weights`. Raises ConfigurationError."""
    arguments = network_arguments(config)
    try:
        network = bundle.NETWORKS[config.network.name](**arguments)
    except (TypeError, ValueError, ArithmeticError, RuntimeError) as error:
        raise ConfigurationError(f"network: {' '.join(str(error).split())}.") from error
    assert isinstance(network, UNet3D)
    if network.in_channels != 1 or network.num_classes != len(config.classes) + 1:
        raise ConfigurationError(
            f"network: takes {network.in_channels} channels and gives {network.num_classes} classes, but the data have "
            f"1 channel and {len(config.classes) + 1} classes; remove in_channels and num_classes from its arguments."
        )
    if any(n % network.divisor for n in config.crop):
        raise ConfigurationError(f"crop: {config.crop} must be multiples of {network.divisor} for this network.")
    if config.gate_warmup_epochs and not network.attention_parameters():
        raise ConfigurationError(f"gate_warmup_epochs: {config.network.name} has no gates to warm up; remove it.")
    take_initial_weights(network, config)
    return network


def network_arguments(config: TrainingConfig) -> dict[str, Any]:
    """The configuration's network arguments with the number of classes (the background included)."""
    arguments = {"num_classes": len(config.classes) + 1, **config.network.arguments}
    left_out = [number for number, item in enumerate(config.classes, 1) if item.name in config.left_out]
    return {**arguments, "left_out": left_out} if left_out else arguments


def take_initial_weights(network: nn.Module, config: RunConfig) -> None:
    """Fills the network with the weights of the configuration's `initial_weights`, if it names any.

    Raises ConfigurationError when they do not fit, BundleError when there is no model, or one of another task.
    """
    if config.initial_weights is None:
        return
    if config.initial_match == "exact":
        take_all_weights(network, config.initial_weights)
    else:
        tqdm.write(take_common_weights(network, config.initial_weights), file=sys.stderr)


def require_in_initial_weights(network: nn.Module, prefix: str, config: RunConfig) -> None:
    """Raises ConfigurationError where `initial_weights` lack any of the weights whose names begin with the prefix."""
    assert config.initial_weights is not None
    given, own = _load_for(network, config.initial_weights).network.state_dict(), network.state_dict()
    lacking = [
        name for name, value in own.items()
        if name.startswith(prefix) and (name not in given or given[name].shape != value.shape)
    ]  # fmt: skip
    if lacking:
        raise ConfigurationError(
            f"frozen: {config.initial_weights} has no '{lacking[0]}' of this size ({len(lacking)} such in all), which "
            "would stay random; give the network the arguments that it has there ('features', 'convs', 'bias'), or "
            "freeze nothing."
        )


def take_all_weights(network: nn.Module, path: Path) -> None:
    """Fills the network with the weights of a bundle. Raises ConfigurationError when they are another network's."""
    try:
        network.load_state_dict(_load_for(network, path).network.state_dict())
    except RuntimeError as error:
        raise ConfigurationError(
            f"{path}: its weights do not fit this {type(network).__name__}; 'initial_match: common' takes those that "
            "both networks have."
        ) from error


def take_common_weights(network: nn.Module, path: Path) -> str:
    """Fills the network with every weight of a bundle's that has the same name and shape: an Attention U-Net with a
    U-Net's. The others stay as they are.

    Returns a sentence that says how many. Raises ConfigurationError when there is none.
    """
    given = _load_for(network, path).network.state_dict()
    own = network.state_dict()
    common = {name: value for name, value in given.items() if name in own and own[name].shape == value.shape}
    weights = dict(network.named_parameters())
    taken = [name for name in weights if name in common]
    if not taken:
        raise ConfigurationError(
            f"{path}: has no weight in common with this {type(network).__name__}; take one with the same features."
        )
    network.load_state_dict(common, strict=False)
    numbers, all_numbers = (sum(weights[name].numel() for name in names) for names in (taken, weights))
    return (
        f"{path.name}: {len(taken)} of the {len(weights)} weights were taken from it "
        f"({numbers:,} of {all_numbers:,} numbers); the others start anew."
    )


def _load_for(network: nn.Module, path: Path) -> bundle.Bundle | bundle.PlanesBundle:
    """The model at `path`, which must be of the network's own task."""
    return bundle.load(path) if isinstance(network, UNet3D) else bundle.load_planes(path)
