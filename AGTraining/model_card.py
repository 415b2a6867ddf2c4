"""The model card: what a model is for, what it is made of, and how far it may be trusted, as Markdown.

Everything in it is taken from the bundle's description, or measured from its weights; nothing is claimed beyond that.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import nn

from AGTraining.bundle import BundleInfo, FrameRule, ModelInfo, PlanesInfo

# Of the provenance: what has a place of its own in the card.
TOLD_APART = {"training", "data", "validation_data", "initial_weights", "teacher"}
LONGEST_LIST = 12
EMPTY: tuple[Any, ...] = ("", None, [], {})


def model_card(info: ModelInfo, network: nn.Module | None = None) -> str:
    """The card of a model; with its network, also how many parameters it has. Reads well as plain text."""
    sections = {
        info.name: _purpose(info),
        "Classes": _planes(info) if isinstance(info, PlanesInfo) else _classes(info),
        "Network": _network(info, network),
        "Input and output": _frames(info) if isinstance(info, PlanesInfo) else _input(info),
        "Training": _training(info.provenance),
        "Measured": _measured(info.metrics) or ["Nothing was measured: do not rely on it before you have."],
        "Licence": [info.licence],
        "Limits": _limits(info),
    }
    blocks = []
    for number, (title, lines) in enumerate(sections.items()):
        blocks.append("\n".join([f"{'#' if number == 0 else '##'} {title}", "", *lines]))
    return "\n\n".join(blocks) + "\n"


def parameter_count(network: nn.Module) -> int:
    """How many numbers of a network are trained; batch norm's running statistics are not."""
    return sum(parameter.numel() for parameter in network.parameters())


def _purpose(info: ModelInfo) -> list[str]:
    if isinstance(info, PlanesInfo):
        planes = ", ".join(plane.name for plane in info.classes if not plane.background)
        return [f"Finds standard planes in fetal ultrasound: {planes}. For research; not a medical device."]
    names = ", ".join(label.name for label in info.output_labels)
    return [f"Segments CT scans: {names}. For research; not a medical device."]


def _planes(info: PlanesInfo) -> list[str]:
    rows = [
        [str(number), plane.name, plane.meaning or ("no standard plane" if plane.background else "")]
        for number, plane in enumerate(info.classes)
    ]
    lines = _table(["Output", "Plane", "Meaning"], rows)
    if info.background is None:
        lines += ["", "No class stands for frames without a standard plane: each frame is given one."]
    return lines


def _classes(info: BundleInfo) -> list[str]:
    rows = []
    for label in info.output_labels:
        code = f"{label.type_code} {label.type_meaning}"
        if label.modifier_code:
            code += f", {label.modifier_code} {label.modifier_meaning}"
        usual = "{:g}–{:g} ml".format(*label.usual_ml) if label.usual_ml else ""
        rows.append([str(label.value), label.name, code, usual])
    lines = _table(["Label", "Organ", "SNOMED CT", "Usual volume"], rows)
    paired = [organ.name for organ in info.classes if organ.paired]
    if paired:
        lines += ["", f"Right and left {' and '.join(paired)} are one class of the network, told apart by anatomy."]
    return lines


def _network(info: ModelInfo, network: nn.Module | None) -> list[str]:
    arguments = ", ".join(f"{key}={value}" for key, value in info.arguments.items())
    lines = [f"- {info.network}({arguments})"]
    if network is not None:
        count = parameter_count(network)
        lines.append(f"- {count:,} parameters ({count / 1e6:.2f} M), counted in the file")
    return lines


def _input(info: BundleInfo) -> list[str]:
    rule = info.intensity
    score = (
        "z-scores by the image's own mean and SD"
        if rule.mean is None
        else f"z-scores by mean {rule.mean:g} HU and SD {rule.sd:g} HU"
    )
    classes = ", ".join(["background", *(organ.name for organ in info.classes)])
    lines = [
        "- Grid: " + " × ".join(f"{s:g}" for s in info.spacing_mm) + " mm along the patient's x, y, z",
        "- Array: (N, 1, D, H, W); D runs to the head, H to the back, W to the left",
        f"- Intensities: clipped to {rule.low:g}…{rule.high:g} HU, then {score}",
        f"- Logits: (N, {len(info.classes) + 1}, D, H, W); {classes}",
    ]
    if info.mirror_axes:
        lines.append(f"- Mirrored images along {', '.join(info.mirror_axes)} were seen in training")
    return lines


def _frames(info: PlanesInfo) -> list[str]:
    rule = info.frame
    rows, columns = rule.size
    scale = f", times {rule.scale:g}" if rule.scale != 1 else ""
    lines = [
        f"- Frame: one gray value a pixel, more = brighter; {_crop(rule)}",
        f"- Array: (N, 1, {rows}, {columns}); rows down, columns to the right; bilinear with antialiasing",
        f"- Gray: z-scores by the cropped frame's own mean and SD{scale}",
        f"- Logits: (N, {len(info.classes)}); {', '.join(info.names)}",
    ]
    if rule.rounded:
        lines.append("- Resampling rounds to whole gray levels after each axis (8-bit pictures, each color by itself)")
    return lines


def _crop(rule: FrameRule) -> str:
    if rule.fixed is not None:
        top, bottom, left, right = rule.fixed
        return f"rows {top} to {bottom} and columns {left} to {right} of it, whatever their proportions"
    if rule.crop == "sector":
        return "cropped to the scan sector, grown to the input's proportions"
    return (
        f"the largest centered part of the input's proportions{f', times {rule.share:.3g}' if rule.share < 1 else ''}"
    )


def _training(provenance: Mapping[str, Any]) -> list[str]:
    if not provenance:
        return ["Nothing is known of how it was trained."]
    lines = []
    if provenance.get("training"):
        lines += [str(provenance["training"]), ""]
    lines += [
        f"- {_words(key)}: {_value(value)}"
        for key, value in provenance.items()
        if key not in TOLD_APART and value not in EMPTY
    ]
    for key, what in (("initial_weights", "Started from"), ("teacher", "Taught by")):
        given = provenance.get(key)
        if isinstance(given, Mapping):
            file = given.get("file") or (f"SHA-256 {given['sha256']}" if given.get("sha256") else "file unknown")
            lines.append(f"- {what}: {given.get('name', 'another model')} ({file})")
        elif given:
            lines.append(f"- {what}: {_value(given)}")
    for key, what in (("data", "Data"), ("validation_data", "Validated on")):
        data = provenance.get(key)
        if isinstance(data, list) and all(isinstance(item, Mapping) and "name" in item for item in data):
            lines += [f"- {what}: {d['name']}, {_amount(d)}; licence {d.get('licence') or 'unknown'}" for d in data]
        elif data:
            lines.append(f"- {what}: {_value(data)}")
    return lines


def _amount(data: Mapping[str, Any]) -> str:
    """How much there was of a data set: frames, or cases by name."""
    if "frames" not in data:
        return _cases(data.get("cases", []))
    labelled = data.get("labelled", data["frames"])
    part = "" if labelled == data["frames"] else f" ({labelled} of them with their labels)"
    return f"{data['frames']} frames of {data.get('patients') or 'unknown'} patients{part}"


def _cases(names: Sequence[str]) -> str:
    listed = ", ".join(names[:LONGEST_LIST]) + (", …" if len(names) > LONGEST_LIST else "")
    return f"{len(names)} cases ({listed})" if names else "cases unknown"


def _measured(metrics: Mapping[str, Any]) -> list[str]:
    """Tables of what is a table (figures by case and organ, or by organ); the rest as it is."""
    lines: list[str] = []
    for key, value in metrics.items():
        if lines:
            lines.append("")
        if _has_figures(value):
            lines += [f"{_words(key)}:", "", *_table(list(value), [[_value(figure) for figure in value.values()]])]
        elif isinstance(value, Mapping) and value and all(_has_figures(row) for row in value.values()):
            columns = list(dict.fromkeys(name for row in value.values() for name in row))
            rows = [[case, *(_value(row.get(name, "–")) for name in columns)] for case, row in value.items()]
            lines += [f"{_words(key)}:", "", *_table(["", *columns], rows)]
        else:
            lines.append(f"{_words(key)}: {_value(value)}")
    return lines


def _has_figures(value: Any) -> bool:
    return isinstance(value, Mapping) and bool(value) and all(isinstance(v, int | float) for v in value.values())


def _limits(info: ModelInfo) -> list[str]:
    if isinstance(info, PlanesInfo):
        return [
            "- A person must look at every result; it is no basis for a diagnosis.",
            "- Only the classes above are known; any other frame (another organ, a phantom, an adult) is given one of "
            "them too, and may be given a plane with high confidence.",
            "- It is unproven on frames unlike those of its training and its measurements: other ages, scanners, "
            "probes, depths.",
        ]
    lines = [
        "- A person must look at every result; it is no basis for a diagnosis.",
        "- Only the classes above are known; whatever else is in the scan is background to it.",
        "- It is unproven on scans unlike those of its training and its measurements: other ages, diseases, contrast "
        "phases, scanners.",
        "- It takes CT in Hounsfield units; on MR and on uncalibrated CT its result means nothing.",
    ]
    unusual = [organ.name for organ in info.classes if organ.usual_ml]
    if unusual:
        lines.append(f"- A volume outside of the usual one ({', '.join(unusual)}) is reported, not corrected.")
    return lines


def _words(key: str) -> str:
    text = key.replace("_", " ")
    return text[:1].upper() + text[1:]


def _value(value: Any) -> str:
    """A value in a line: figures short, lists and pairs without brackets, what is nested deeper as JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping) and not any(isinstance(v, Mapping) for v in value.values()):
        return ", ".join(f"{key} {_value(v)}" for key, v in value.items())
    if isinstance(value, list | tuple) and not any(isinstance(v, list | Mapping) for v in value):
        return " × ".join(map(_value, value)) if len(value) == 3 and _numbers(value) else ", ".join(map(_value, value))
    return json.dumps(value, ensure_ascii=False)


def _numbers(values: Iterable[Any]) -> bool:
    return all(isinstance(value, int | float) for value in values)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A Markdown table whose columns are aligned for a reader of the plain text too."""
    cells = [[cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in (head, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    padded = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in cells]
    lines = [f"| {' | '.join(row)} |" for row in padded]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return lines
