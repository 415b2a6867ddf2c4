"""Frames of planes of which there are none, out of a trained network.

`python -m AGTraining.experiments.data_free_frames` writes a folder for each class with 8-bit PNGs of the size that the
network sees (see `AGTraining.training.inversion`), and a `frames.json` with the probability that the network gives each
one's class. They are training material beside real frames, for a student of the same teacher; no one should take them
for ultrasound.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from AGTraining import bundle
from AGTraining.errors import AGTrainingError, ConfigurationError
from AGTraining.inference.device import choose_device
from AGTraining.training.inversion import InversionSettings, invert, noise_pictures

INDEX = "frames.json"


def make_frames(
    model: bundle.PlanesBundle,
    out: Path,
    classes: Sequence[str],
    count: int,
    batch: int = 24,
    seed: int = 0,
    settings: InversionSettings | None = None,
) -> dict[str, float]:
    """Writes `count` frames of each class; returns the probability of its class by file, relative to `out`.

    Each batch holds all classes in turn: the statistics that it is held to are those of a mixture. Batches that are in
    `out` already are not made again, so that the command goes on where it was ended. Raises ConfigurationError for
    classes that the model does not have.
    """
    names = [item.name for item in model.info.classes]
    unknown = [name for name in classes if name not in names]
    if unknown:
        raise ConfigurationError(f"{model.path}: has no class '{unknown[0]}'; it has {', '.join(names)}.")
    wanted = [name for _ in range(count) for name in classes]
    index = out / INDEX
    sure: dict[str, float] = json.loads(index.read_text(encoding="utf-8")) if index.is_file() else {}
    files = [Path(name, f"{number:04d}.png").as_posix() for number in range(count) for name in classes]
    for first in range(0, len(wanted), batch):
        part = slice(first, first + batch)
        if all(file in sure for file in files[part]):
            continue
        targets = [names.index(name) for name in wanted[part]]
        starts = noise_pictures(len(targets), model.info.frame.size, seed=seed + first)
        pictures, probabilities = invert(
            model.network, starts, targets, model.info.frame.scale, settings, seed=seed + first
        )
        for file, picture, probability in zip(files[part], pictures, probabilities.tolist(), strict=True):
            (out / file).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.rint(picture[0].numpy() * 255).astype(np.uint8)).save(out / file)
            sure[file] = round(probability, 4)
        index.write_text(json.dumps(sure, indent=1), encoding="utf-8")
        print(f"{first + len(targets)} of {len(wanted)} frames", file=sys.stderr, flush=True)
    return sure


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="bundle of a Sononet, as import-sononet makes it")
    parser.add_argument("out", type=Path, help="folder for the frames")
    parser.add_argument("--classes", nargs="+", default=None, metavar="NAME", help="default: all but the background")
    parser.add_argument("--count", type=int, default=20, help="frames of each class")
    parser.add_argument("--batch", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto")
    given = parser.parse_args(arguments)
    try:
        model = bundle.load_planes(given.model, choose_device(given.device))
        classes = given.classes or [item.name for item in model.info.classes if not item.background]
        sure = make_frames(model, given.out, classes, given.count, given.batch, given.seed)
    except AGTrainingError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{len(sure)} frames in {given.out}; mean probability of their class {np.mean(list(sure.values())):.3f}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
