"""One-file model: weights and all that is needed to run them, in a `.safetensors` file.

The file's metadata carries a JSON document (`BundleInfo` or `PlanesInfo`) and a SHA-256 over document and weights.
Nothing is unpickled.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from AGTraining import networks
from AGTraining.bundle_file import CHECKSUM_KEY, DOCUMENT_KEY, FORMAT_VERSION
from AGTraining.errors import BundleError
from AGTraining.imaging.frame_rule import FrameRule
from AGTraining.imaging.intensity import IntensityRule
from AGTraining.model_info import (
    INFO_OF_TASK,
    BundleInfo,
    Millimeters,
    ModelInfo,
    OrganClass,
    PlaneClass,
    PlanesInfo,
)

__all__ = [
    "CHECKSUM_KEY",
    "DOCUMENT_KEY",
    "FORMAT_VERSION",
    "NETWORKS",
    "Bundle",
    "BundleInfo",
    "FrameRule",
    "IntensityRule",
    "Millimeters",
    "ModelInfo",
    "OrganClass",
    "PlaneClass",
    "PlanesBundle",
    "PlanesInfo",
    "default_path",
    "load",
    "load_any",
    "load_planes",
    "read_info",
    "save",
]

NETWORKS_OF_TASK: Mapping[str, Mapping[str, type[nn.Module]]] = {
    "segmentation": {"UNet3D": networks.UNet3D, "AttentionUNet": networks.AttentionUNet},
    "planes": {"Sononet": networks.Sononet, "AGSononet": networks.AGSononet},
}
STARTERS = {"segmentation": "abdomen-ct-starter.safetensors", "planes": "fetal-planes-starter-16.safetensors"}
NETWORKS: Mapping[str, type[nn.Module]] = {
    name: network for known in NETWORKS_OF_TASK.values() for name, network in known.items()
}


@dataclass(frozen=True)
class Bundle:
    """A loaded model that segments: the network in evaluation mode on `device`, and its metadata."""

    info: BundleInfo
    network: nn.Module
    device: torch.device
    path: Path


@dataclass(frozen=True)
class PlanesBundle:
    """A loaded model that finds standard planes: the network in evaluation mode on `device`, and its metadata."""

    info: PlanesInfo
    network: nn.Module
    device: torch.device
    path: Path


def default_path(task: Literal["segmentation", "planes"] = "segmentation") -> Path:
    """The bundled starter model of a task: `Resources/Models` of the checkout or installed extension around this
    package.

    Raises BundleError when it is missing.
    """
    name = Path("Resources", "Models", STARTERS[task])
    for parent in Path(__file__).resolve().parents[1:4]:
        if (parent / name).is_file():
            return parent / name
    raise BundleError(f"The bundled model {name} was not found beside AGTraining; name a model file instead.")


def save(path: str | Path, network: nn.Module, info: ModelInfo, half: bool = True) -> None:
    """Writes the bundle atomically; floating-point weights as fp16 unless `half` is off.

    Raises BundleError when a weight is not finite (in fp16, when `half`), or the classes are not the network's.
    """
    path = Path(path)
    _check_classes(path, network, info)
    tensors: dict[str, Tensor] = {}
    for name, tensor in network.state_dict().items():
        tensor = tensor.detach().cpu()
        if half and tensor.is_floating_point():
            tensor = tensor.half()
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise BundleError(f"{path.name}: weight '{name}' is not finite in {tensor.dtype}; the model is not saved.")
        tensors[name] = tensor.contiguous()
    document = info.model_dump_json()
    metadata = {DOCUMENT_KEY: document, CHECKSUM_KEY: _checksum(document, tensors)}
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        # Not safetensors' own writer, whose files nobody else may read.
        temporary.write_bytes(to_bytes(tensors, metadata))
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def read_info(path: str | Path) -> ModelInfo:
    """The metadata alone. Raises BundleError as `load` does, but does not check the weights."""
    path = Path(path)
    with _open(path) as file:
        return _info(path, file.metadata())


def load(path: str | Path, device: str | torch.device = "cpu") -> Bundle:
    """Reads a bundle that segments and builds its network on the device, in evaluation mode and fp32.

    Raises BundleError when the file is missing, truncated, altered, of another kind or task or of a newer format.
    """
    model = load_any(path, device)
    if isinstance(model, Bundle):
        return model
    raise BundleError(f"{path}: this model finds standard planes in ultrasound; choose one that segments scans.")


def load_planes(path: str | Path, device: str | torch.device = "cpu") -> PlanesBundle:
    """As `load`, for a model that finds standard planes."""
    model = load_any(path, device)
    if isinstance(model, PlanesBundle):
        return model
    raise BundleError(f"{path}: this model segments scans; choose one that finds standard planes in ultrasound.")


def load_any(path: str | Path, device: str | torch.device = "cpu") -> Bundle | PlanesBundle:
    """As `load`, for a model of any task."""
    path = Path(path)
    with _open(path) as file:
        metadata = file.metadata()
        info = _info(path, metadata)
        try:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        except SafetensorError as error:
            raise BundleError(f"{path}: the model file is damaged ({error}); copy or download it again.") from error
    if _checksum(metadata[DOCUMENT_KEY], tensors) != metadata.get(CHECKSUM_KEY):
        raise BundleError(
            f"{path}: the model file was altered after it was made (its SHA-256 differs); copy or download it again."
        )
    try:
        # No memory and no initialisation for weights that are replaced at once.
        with torch.device("meta"):
            network = NETWORKS[info.network](**info.arguments)
        weights = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
        network.load_state_dict(weights, assign=True)
    except (TypeError, ValueError, ArithmeticError, RuntimeError, MemoryError) as error:
        reason = " ".join(str(error).split())[:200]
        raise BundleError(
            f"{path}: the weights do not fit the network {info.network} that it names ({reason})."
        ) from error
    _check_classes(path, network, info)
    for name, weight in network.state_dict().items():
        if weight.is_floating_point() and not bool(torch.isfinite(weight).all()):
            raise BundleError(f"{path}: weight '{name}' is not finite; the model cannot be used.")
    network.eval().requires_grad_(False)
    device = torch.device(device)
    if isinstance(info, PlanesInfo):
        return PlanesBundle(info, network.to(device), device, path)
    return Bundle(info, network.to(device), device, path)


def _open(path: Path) -> Any:
    if not path.is_file():
        raise BundleError(f"{path}: no such model file.")
    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        raise BundleError(
            f"{path}: not a complete .safetensors model file ({error}); copy or download it again. "
            "PyTorch's pickled .pt and .pth files are not read, because they can run code."
        ) from error


def _info(path: Path, metadata: Mapping[str, str] | None) -> ModelInfo:
    if not metadata or DOCUMENT_KEY not in metadata:
        raise BundleError(f"{path}: a .safetensors file, but not a model of AGTraining (its description is missing).")
    try:
        document = json.loads(metadata[DOCUMENT_KEY])
        version = document.get("format_version")
        if version != FORMAT_VERSION:
            raise BundleError(
                f"{path}: model format {version}; this version reads format {FORMAT_VERSION}. Update the extension."
            )
        task = document.get("task", "segmentation")
        if not isinstance(task, str) or task not in INFO_OF_TASK:
            raise BundleError(f"{path}: made for the task '{task}', which this version does not know.")
        info = INFO_OF_TASK[task].model_validate(document)
    except (ValidationError, json.JSONDecodeError, AttributeError, RecursionError) as error:
        raise BundleError(
            f"{path}: the model's description is not valid ({' '.join(str(error).split())[:200]})."
        ) from error
    if info.network not in NETWORKS:
        raise BundleError(f"{path}: made for the network '{info.network}', which this version does not know.")
    if info.network not in NETWORKS_OF_TASK[info.task]:
        raise BundleError(f"{path}: its network {info.network} is none for the task '{info.task}' that it names.")
    return info


def _check_classes(path: Path, network: nn.Module, info: ModelInfo) -> None:
    if getattr(network, "in_channels", 1) != 1:
        raise BundleError(f"{path}: its network takes {network.in_channels} images at once; only one is supported.")
    outputs = getattr(network, "num_classes", None)
    if isinstance(info, PlanesInfo):
        if outputs != len(info.classes):
            raise BundleError(
                f"{path}: its network has {outputs} outputs, but its description names {len(info.classes)} classes; "
                "take the description that belongs to the network."
            )
    elif outputs != len(info.classes) + 1:
        raise BundleError(
            f"{path}: its network has {outputs} outputs, but its description names {len(info.classes)} classes and the "
            "background; take the description that belongs to the network."
        )


def _checksum(document: str, tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over the document and, by name, each tensor's name, type, shape and bytes."""
    digest = hashlib.sha256(document.encode())
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        digest.update(f"\0{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
