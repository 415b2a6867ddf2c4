"""What a model file says of itself."""

from __future__ import annotations

import argparse

from AGTraining.arguments import expanded_path


def add_parser(verbs: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser) -> None:
    """Adds the verb and its arguments."""
    parser = verbs.add_parser("describe", parents=[common], help="print the model card of a model file")
    parser.description = "Prints the model card (Markdown): purpose, classes, network, training, figures, limits."
    parser.add_argument(
        "bundle", nargs="?", type=expanded_path, metavar="BUNDLE", help="model file (default: the bundled one)"
    )
    parser.add_argument("--json", action="store_true", help="print the metadata as JSON")
    parser.set_defaults(verb=run)


def run(parsed: argparse.Namespace) -> int:
    """Prints the model card; a damaged file is refused."""
    from AGTraining import bundle
    from AGTraining.model_card import model_card

    path = parsed.bundle or bundle.default_path()
    if parsed.json:
        print(bundle.read_info(path).model_dump_json(indent=2))
        return 0
    model = bundle.load_any(path)
    print(model_card(model.info, model.network), end="")
    return 0
