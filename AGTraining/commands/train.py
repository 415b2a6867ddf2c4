"""Training from a configuration file."""

from __future__ import annotations

import argparse

from AGTraining.arguments import expanded_path, seed


def add_parser(verbs: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser) -> None:
    """Adds the verb and its arguments."""
    parser = verbs.add_parser("train", parents=[common], help="train a model from a configuration")
    parser.description = "Trains a model; a run that was stopped goes on where it was when it is started again."
    parser.add_argument("config", type=expanded_path, metavar="CONFIG.yaml", help="training configuration")
    parser.add_argument("--device", default="auto", help="auto (default), cpu, cuda, cuda:N or mps")
    parser.add_argument("--out", type=expanded_path, metavar="DIR", help="run folder (default: the configuration's)")
    parser.add_argument(
        "--data", type=expanded_path, metavar="DIR",
        help="folder where the configuration's data sets lie (default: its own folder)",
    )  # fmt: skip
    parser.add_argument(
        "--seed",
        type=seed,
        metavar="N",
        help="in place of the configuration's; with deterministic algorithms (bit for bit on the CPU alone)",
    )
    parser.set_defaults(verb=run)


def run(parsed: argparse.Namespace) -> int:
    """Trains, or goes on with, the configuration's run; says how good it is, and where report and model lie."""
    from AGTraining.training import distributed
    from AGTraining.training.run import train_from_config

    result = train_from_config(parsed.config, parsed.device, parsed.out, parsed.data, parsed.seed)
    if distributed.is_main():
        if result.scores:
            by_class = ", ".join(f"{name} {score:.3f}" for name, score in result.scores.items())
            mean = sum(result.scores.values()) / len(result.scores)
            print(f"{result.measure} of the best validation {mean:.3f} ({by_class})")
        print(f"report  {result.report}\nmodel   {result.bundle}")
    return 0
