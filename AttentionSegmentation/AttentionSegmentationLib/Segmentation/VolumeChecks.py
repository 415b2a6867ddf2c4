"""What can be known to be wrong before a segmentation is started."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import slicer

from AGTraining.errors import InputError
from AGTraining.imaging.checks import volume_warnings

from ..VolumeConversion import volumeFromNode, worldFromParent
from .ProcessingOptions import ProcessingOptions, absoluteModelPath

# As `AGTraining.imaging.checks` names them.
_VOLUME_CODES = {
    "short": "shortScan",
    "coarse": "coarseVoxels",
    "spacing": "spacing",
    "not finite": "notFinite",
    "intensity": "intensity",
}


@dataclass(frozen=True)
class Finding:
    """Something that the user should know before the run.

    code: a stable word. blocking: it makes no sense to start. suggestion: a better choice: for "tileTooLarge" a tile
    size (K, J, I), for "tooLittleMemory" a device.
    """

    code: str
    sentence: str
    blocking: bool
    suggestion: Any = None


def checkBeforeRun(
    volumeNode: Any, options: ProcessingOptions, devices: Sequence[Mapping[str, Any]] | None = None
) -> tuple[Finding, ...]:
    """All that can be said of the input and the choices, what blocks first.

    devices: those of the worker's answer to `describe`; None checks no memory. Reads a part of the voxels only (all of
    them where that part is a single value), so it can follow each change of the choices.
    """
    findings = [*_volumeFindings(volumeNode)]
    try:
        options.segmentOptions()
    except InputError as error:
        findings.append(Finding("options", str(error), blocking=True))
    else:
        findings += [*_modelFindings(options), *_deviceFindings(options, devices)]
    return tuple(sorted(findings, key=lambda finding: not finding.blocking))


def _volumeFindings(volumeNode: Any) -> Iterable[Finding]:
    if volumeNode is None:
        yield Finding("noVolume", "No volume was chosen; choose the CT to segment.", blocking=True)
        return
    try:
        if volumeNode.IsA("vtkMRMLTransformableNode"):
            worldFromParent(volumeNode)
    except InputError as error:
        yield Finding("nonLinearTransform", str(error), blocking=True)
        return
    try:
        volume = volumeFromNode(volumeNode)
        warnings = volume_warnings(volume, count_not_finite=False)
    except InputError as error:
        yield Finding("notSegmentable", str(error), blocking=True)
        return
    modality = dicomModality(volumeNode)
    if modality and modality != "CT":
        sentence = f"{volume.name}: DICOM says that it is {modality}, not CT; the model knows only CT."
        yield Finding("modality", sentence, blocking=False)
    for warning in warnings:
        yield Finding(_VOLUME_CODES[warning.code], warning.sentence, blocking=False)


def dicomModality(volumeNode: Any) -> str:
    """The modality of a volume that was loaded from DICOM; empty where it is not known."""
    scene = volumeNode.GetScene()
    subjectHierarchy = scene.GetSubjectHierarchyNode() if scene is not None else None
    item = subjectHierarchy.GetItemByDataNode(volumeNode) if subjectHierarchy is not None else 0
    if not item:
        return ""
    attribute = slicer.vtkMRMLSubjectHierarchyConstants.GetDICOMSeriesModalityAttributeName()
    return subjectHierarchy.GetItemAttribute(item, attribute).strip().upper()


def _modelFindings(options: ProcessingOptions) -> Iterable[Finding]:
    path = absoluteModelPath(options.modelPath)
    try:
        if path is None or path.is_file():
            return
        sentence = f"{options.modelPath}: no such model file; choose another model or place the file there."
    except OSError as error:
        sentence = f"{options.modelPath}: the model file cannot be reached ({error.strerror or error}); choose another."
    yield Finding("noModel", sentence, blocking=True)


def _deviceFindings(options: ProcessingOptions, devices: Sequence[Mapping[str, Any]] | None) -> Iterable[Finding]:
    if not devices:
        return
    device = chosenDevice(options.device, devices)
    if device is None:
        known = ", ".join(entry["device"] for entry in devices)
        sentence = f"Device '{options.device}' is not available now; choose 'auto' or one of: {known}."
        yield Finding("noDevice", sentence, blocking=True, suggestion="auto")
        return
    largest = device.get("largest_tile")
    if largest is None:
        return
    if largest == 0:
        yield _tooLittleMemory(device, options)
    elif options.tileSize is not None and _voxels(options.tileSize) > largest**3:
        size = " × ".join(str(n) for n in options.tileSize)
        sentence = (
            f"{device['name']}: a tile of {size} voxels needs more than the free memory ({_free(device)}); "
            f"{largest} × {largest} × {largest} fits."
        )
        yield Finding("tileTooLarge", sentence, blocking=False, suggestion=(largest, largest, largest))


def _tooLittleMemory(device: Mapping[str, Any], options: ProcessingOptions) -> Finding:
    if device["device"] == "cpu":
        sentence = f"Too little memory is free ({_free(device)}) even for the smallest tile; close other programs."
        return Finding("tooLittleMemory", sentence, blocking=True)
    name = device["name"]
    if options.device == "auto":
        sentence = f"{name}: too little memory is free ({_free(device)}), so the CPU may be used, which takes longer."
        return Finding("tooLittleMemory", sentence, blocking=False, suggestion="cpu")
    sentence = (
        f"{name}: too little memory is free ({_free(device)}) even for the smallest tile; choose the CPU, or close "
        "other programs that use this GPU."
    )
    return Finding("tooLittleMemory", sentence, blocking=True, suggestion="cpu")


def chosenDevice(name: str, devices: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The device that a choice means now: for `auto` the GPU with most free memory, else the CPU; None if unknown."""
    if name == "cuda":
        name = "cuda:0"
    if name != "auto":
        return next((device for device in devices if device["device"] == name), None)
    usable = [device for device in devices if device["device"] != "cpu" and device.get("free_bytes")]
    if usable:
        return max(usable, key=lambda device: (device["device"].startswith("cuda"), device["free_bytes"]))
    return next((device for device in devices if device["device"] == "cpu"), None)


def _voxels(tileSize: Sequence[int]) -> int:
    k, j, i = tileSize
    return k * j * i


def _free(device: Mapping[str, Any]) -> str:
    return f"{(device.get('free_bytes') or 0) / 1e9:.1f} GB"
