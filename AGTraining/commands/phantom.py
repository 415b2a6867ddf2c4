"""A procedural abdomen CT with labels."""

from __future__ import annotations

import argparse
from dataclasses import replace

from AGTraining.arguments import expanded_path, positive_mm, seed


def add_parser(verbs: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser) -> None:
    """Adds the verb and its arguments."""
    parser = verbs.add_parser("phantom", parents=[common], help="make a procedural abdomen CT with labels")
    parser.add_argument(
        "--out", required=True, type=expanded_path, metavar="PATH",
        help="folder for ct.nii.gz and labels.nii.gz, or a file name for the CT (labels get _labels after it)",
    )  # fmt: skip
    parser.add_argument("--seed", type=seed, default=0, help="which patient (default 0)")
    parser.add_argument(
        "--spacing", nargs=3, type=positive_mm, metavar=("X", "Y", "Z"), help="voxel spacing in mm along x, y, z"
    )
    parser.set_defaults(verb=run)


def run(parsed: argparse.Namespace) -> int:
    """Writes the scan and its label map."""
    from AGTraining.data.phantom import PhantomOptions, make_phantom
    from AGTraining.imaging.files import WRITABLE, image_suffix, write_volume

    ct_path, labels_path = parsed.out / "ct.nii.gz", parsed.out / "labels.nii.gz"
    if parsed.out.name.lower().endswith(WRITABLE):
        suffix = image_suffix(parsed.out)
        ct_path = parsed.out
        labels_path = ct_path.with_name(f"{ct_path.name.removesuffix(suffix)}_labels{suffix}")
    options = PhantomOptions(seed=parsed.seed)
    if parsed.spacing:
        options = replace(options, spacing=tuple(parsed.spacing))
    phantom = make_phantom(options)
    write_volume(phantom.ct, ct_path)
    write_volume(phantom.labels, labels_path)
    print(f"{ct_path}\n{labels_path}")
    return 0
