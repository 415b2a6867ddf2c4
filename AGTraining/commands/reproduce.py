"""The papers' tables: runs their rows, and shows ours beside theirs."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from AGTraining.arguments import expanded_path, positive_count
from AGTraining.commands.evaluate import print_table
from AGTraining.errors import InputError

if TYPE_CHECKING:
    from AGTraining.experiments.comparison import TableComparison
    from AGTraining.experiments.plane_tables import PlaneTable
    from AGTraining.experiments.tables import Table

CLAIM = "phantom-claim"
TABLES = ("table1", "table2", "table3", "table4", "table5", "table6", "table7")


def add_parser(verbs: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser) -> None:
    """Adds the verb and its arguments."""
    parser = verbs.add_parser("reproduce", parents=[common], help="run a table of the papers, compare with theirs")
    parser.description = (
        "Runs the rows of a table of Oktay et al. 2018 (organs in CT, tables 1 to 4) or Schlemper et al. 2019 (planes "
        "in fetal ultrasound, tables 5 to 7) and prints our figures beside the paper's. What is done is not done "
        "twice: started again, it goes on where it was. Splits that the data sets have are used, others made."
    )
    parser.add_argument(
        "table", nargs="?", choices=(*TABLES, "all", CLAIM), metavar="TABLE",
        help=f"{', '.join(TABLES)}, all (default), or {CLAIM}: Attention U-Net against U-Net on few phantoms",
    )  # fmt: skip
    parser.add_argument(
        "--data", type=expanded_path, metavar="DIR",
        help="folder with ct150/dataset.json and ct82/dataset.json, and planes.hdf5 or FETAL_PLANES_DB_data.csv, as "
        "far as the table needs them",
    )  # fmt: skip
    parser.add_argument(
        "--phantom", action="store_true", help="the whole thing in small, in minutes: on phantoms, with tiny networks"
    )
    parser.add_argument(
        "--runs", type=expanded_path, metavar="DIR",
        help="folder for the runs and tables (default: runs/papers, runs/papers-phantom or runs/phantom-claim)",
    )  # fmt: skip
    parser.add_argument("--collect", action="store_true", help="train nothing; compare what is done")
    parser.add_argument(
        "--seeds", type=positive_count, metavar="N", help=f"repeat each run with N seeds (default 1; 5 for {CLAIM})"
    )
    parser.add_argument("--device", default="auto", help="auto (default), cpu, cuda, cuda:N or mps")
    parser.set_defaults(verb=run)


def run(parsed: argparse.Namespace) -> int:
    """Runs (or collects) and prints; 1 when a row that was asked for is not done."""
    if parsed.table == CLAIM:
        return _run_claim(parsed)
    if parsed.data is None and not parsed.phantom:
        raise InputError("Name the folder of the data sets with --data, or try everything in small with --phantom.")
    if parsed.data is not None and parsed.phantom:
        raise InputError("--phantom makes its own data; leave out --data.")
    from AGTraining.experiments.comparison import HEAD, write_rows
    from AGTraining.experiments.plane_tables import PLANE_TABLES
    from AGTraining.experiments.tables import TABLES as PAPERS_TABLES

    name = parsed.table or "all"
    runs = parsed.runs or Path("runs", "papers-phantom" if parsed.phantom else "papers")
    missing = 0
    for table in (table for table in (*PAPERS_TABLES, *PLANE_TABLES) if name in ("all", table.name)):
        comparison, texts = _compared(table, parsed, runs)
        missing += comparison.missing
        files = write_rows(comparison, runs)
        print(f"\n{table.name}: {table.title}")
        print_table(list(HEAD), comparison.rows)
        for note in texts:
            print(f"note: {note}")
        print("\n".join(str(path) for path in files))
    return int(missing > 0)


def _compared(table: Table | PlaneTable, parsed: argparse.Namespace, runs: Path) -> tuple[TableComparison, list[str]]:
    """A table with our figures, and what a reader must know of it."""
    from AGTraining.experiments.comparison import compare_table, notes
    from AGTraining.experiments.plane_comparison import compare_plane_table, plane_notes
    from AGTraining.experiments.plane_small import planes_made_small
    from AGTraining.experiments.plane_workplace import PlaneWorkplace
    from AGTraining.experiments.small import small_workplace
    from AGTraining.experiments.tables import Table
    from AGTraining.experiments.workplace import Workplace

    common = (parsed.data or runs, runs, parsed.device, parsed.seeds or 1, parsed.collect, _say)
    if isinstance(table, Table):
        place = Workplace(*common)
        if parsed.phantom:
            place = small_workplace(place)
        comparison = compare_table(table, place)
        return comparison, notes(comparison, place)
    planes = PlaneWorkplace(*common, planes_made_small if parsed.phantom else None)
    comparison = compare_plane_table(table, planes)
    return comparison, plane_notes(comparison, planes)


def _run_claim(parsed: argparse.Namespace) -> int:
    from AGTraining.experiments.claim import CLAIM_HEAD, NAMES, claim_rows, run_claim

    if parsed.data is not None or parsed.phantom:
        raise InputError(f"{CLAIM} makes its own phantoms; leave out --data and --phantom.")
    runs = parsed.runs or Path("runs", CLAIM)
    claim = run_claim(runs, parsed.seeds or 5, parsed.device, parsed.collect, _say)
    print(f"mean ± SD over {len(claim.seeds)} of {claim.wanted} seeds, each tested on the same unseen phantoms")
    print_table(list(CLAIM_HEAD), claim_rows(claim))
    for name, cost, seconds in zip(NAMES, claim.costs, claim.seconds, strict=True):
        print(
            f"{name}: {cost.parameters:,} parameters, {cost.flops / 1e9:.2f} GFLOP and {seconds:.3f} s a crop "
            f"({seconds / claim.seconds[0]:.2f} × {NAMES[0]})"
        )
    for message in claim.by_case.messages if claim.by_case else ():
        print(f"note: {message}")
    return int(len(claim.seeds) < claim.wanted)


def _say(line: str) -> None:
    """A line on what is done, off the table."""
    print(line, file=sys.stderr, flush=True)
