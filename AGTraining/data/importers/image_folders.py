"""Importer: plain folders of images and label maps, as in the papers' authors' released code.

    image/a.nii.gz, label/a.nii.gz                       or  images, img, imagesTr … and labels, lbl, masks, labelsTr …
    train/image/a.nii.gz, train/label/…, validation/…    as the authors' loader has it; the parts become the split

An image and a label map belong together when their names are the same, or the numbers in their names are.
"""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

from AGTraining.data.check import label_values
from AGTraining.data.importers.common import (
    DEFAULTS,
    Collected,
    ImportOptions,
    ImportReport,
    images_in,
    organ_name,
    stem,
)
from AGTraining.data.splits import Fold, Splits
from AGTraining.errors import AGTrainingError, ConfigurationError
from AGTraining.imaging.files import read_volume

IMAGES = ("image", "images", "img", "imgs", "imagesTr", "ct", "nifti_imgs")
LABELS = ("label", "labels", "lbl", "lbls", "labelsTr", "mask", "masks", "seg", "segmentations", "nifti_lbls")
TRAINING = ("train", "training")
VALIDATION = ("validation", "valid", "val")


def import_image_folders(folder: Path, output: Path, options: ImportOptions = DEFAULTS) -> ImportReport:
    """Writes a data set of all pairs. options.labels: `pancreas=2` for each value of the label maps.

    Without names the label maps are read for their values, which are called label_1 and so on.
    Raises ConfigurationError where there are no such folders or a name is not of that form.
    """
    names = _names(options.labels)
    parts = {"": folder, **{name: folder / name for name in (*TRAINING, *VALIDATION)}}
    found = {part: pair for part, path in parts.items() if (pair := _folders(path)) is not None}
    if not found:
        raise ConfigurationError(
            f"{folder}: has no folders of images and label maps; name them 'image' and 'label', or the like."
        )
    collected = Collected(folder.resolve().name, "", names)
    taken: dict[str, list[str]] = defaultdict(list)
    for part, (images, labels) in found.items():
        pairs, problems = _pairs(images, labels)
        collected.problems += problems
        for image, label in pairs:
            name = f"{part}_{stem(image)}" if len(found) > 1 else stem(image)
            if collected.add(name, image, label):
                taken["validation" if part in VALIDATION else "training"].append(name)
    if not names:
        collected.labels = _found_names(collected)
    splits = Splits((Fold(tuple(taken["training"]), tuple(taken["validation"])),)) if len(taken) == 2 else None
    return collected.write(output, folder, splits)


def _names(labels: tuple[str, ...]) -> dict[int, str]:
    names = {}
    for text in labels:
        name, _, value = text.partition("=")
        if not name or not value.isdigit():
            raise ConfigurationError(f"'{text}': labels are named as in pancreas=2.")
        names[int(value)] = organ_name(name)
    return names


def _folders(path: Path) -> tuple[Path, Path] | None:
    images = next((path / name for name in IMAGES if images_in(path / name)), None)
    labels = next((path / name for name in LABELS if images_in(path / name)), None)
    return (images, labels) if images is not None and labels is not None else None


def _pairs(images: Path, labels: Path) -> tuple[list[tuple[Path, Path]], list[str]]:
    """Files that belong together, and a sentence for each that is alone."""
    left, right = images_in(images), images_in(labels)
    by_name = {_case_name(path): path for path in right}
    if not any(_case_name(path) in by_name for path in left):
        # img0001 and label0001: the last number in the name, where it tells all apart.
        keys_left, keys_right = [_number(p) for p in left], [_number(p) for p in right]
        if len(set(keys_left)) == len(left) and len(set(keys_right)) == len(right) and None not in keys_left:
            return _matched(dict(zip(keys_left, left, strict=True)), dict(zip(keys_right, right, strict=True)))
    return _matched({_case_name(path): path for path in left}, by_name)


def _matched(left: dict[str | None, Path], right: dict[str | None, Path]) -> tuple[list[tuple[Path, Path]], list[str]]:
    problems = [f"{left[key]}: has no label map." for key in left if key not in right]
    problems += [f"{right[key]}: has no image." for key in right if key not in left]
    return [(left[key], right[key]) for key in left if key in right], problems


def _case_name(path: Path) -> str | None:
    """The name without nnU-Net's number of the channel."""
    return stem(path).removesuffix("_0000")


def _number(path: Path) -> str | None:
    numbers = re.findall(r"\d+", stem(path))
    return numbers[-1] if numbers else None


def _found_names(collected: Collected) -> dict[int, str]:
    values: set[int] = set()
    for case in collected.cases:
        try:
            values |= {int(value) for value in label_values(read_volume(case["label"]).array)}
        except AGTrainingError as error:
            collected.problems.append(str(error))
    names = {value: f"label_{value}" for value in sorted(values - {0})}
    collected.notes.append(f"Labels were called {', '.join(names.values())}; name them with --labels pancreas=1 ….")
    return names
