"""The published SonoNet weights in, a model file out."""

from __future__ import annotations

import argparse

from AGTraining.arguments import expanded_path
from AGTraining.errors import BundleError

SUFFIX = ".safetensors"


def add_parser(verbs: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser) -> None:
    """Adds the verb and its arguments."""
    parser = verbs.add_parser(
        "import-sononet", parents=[common], help="make a model file of the published SonoNet weights"
    )
    parser.description = (
        "Makes a model file of SonoNet16.npz, SonoNet32.npz or SonoNet64.npz from github.com/baumgach/SonoNet-weights "
        "(Apache-2.0): 14 classes of planes in fetal ultrasound."
    )
    parser.add_argument("weights", type=expanded_path, metavar="NPZ", help="the file as it was downloaded")
    parser.add_argument("--out", required=True, type=expanded_path, metavar="FILE", help="model file to write")
    parser.add_argument("--overwrite", action="store_true", help="replace FILE")
    parser.set_defaults(verb=run)


def run(parsed: argparse.Namespace) -> int:
    """Writes the model file and reads it back."""
    if parsed.out.suffix.lower() != SUFFIX:
        raise BundleError(f"{parsed.out}: the name of a model file must end in {SUFFIX}.")
    if parsed.out.exists() and (parsed.out.is_dir() or not parsed.overwrite):
        raise BundleError(f"{parsed.out}: exists already; choose another name, or add --overwrite.")
    from AGTraining import bundle
    from AGTraining.sononet_file import import_sononet

    features = import_sononet(parsed.weights, parsed.out)
    model = bundle.load_planes(parsed.out)
    print(f"{parsed.out}: SonoNet-{features}, {len(model.info.classes)} classes, {model.info.licence}")
    return 0
