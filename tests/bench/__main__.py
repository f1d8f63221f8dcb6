"""`python tests/bench`: measure, print one table (or --json). README.md says how to read it."""

import argparse
import json
import os
import platform
import shutil
import sys
from dataclasses import asdict, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from rich import box
from rich.console import Console
from rich.table import Table

from bench.figures import FIGURES, FULL, QUICK, Row


def main() -> None:
    """Measure what the arguments name."""
    parser = argparse.ArgumentParser(prog="python tests/bench", description=__doc__)
    parser.add_argument("figure", nargs="*", choices=[*FIGURES, []], help="which ones; all where none is named")
    parser.add_argument("--quick", action="store_true", help="small sizes: does it run, not how fast is it")
    parser.add_argument("--rounds", type=int, metavar="N", help=f"how often; {FULL.rounds} without it")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--dir", default=".bench", help="where to measure: a local disk, not a RAM disk")
    arguments = parser.parse_args()
    folder = Path(arguments.dir).resolve() / f"{os.getpid()}"
    sizes = QUICK if arguments.quick else FULL
    if arguments.rounds is not None:
        sizes = replace(sizes, rounds=arguments.rounds)
    rows: list[Row] = []
    for name in arguments.figure or FIGURES:
        for row in FIGURES[name](folder, sizes):
            rows.append(row)
            against = "" if row.ratio is None else f", {row.ratio:.2f} of {row.yardstick}"
            print(f"{row.figure}: {row.case}: {row.ours}{against}", file=sys.stderr, flush=True)
    shutil.rmtree(folder, ignore_errors=True)  # and not between two figures: the next would find a slow disk
    machine = f"{platform.system()} {platform.release()}, Python {platform.python_version()}, {os.cpu_count()} cores"
    if arguments.json:
        print(json.dumps({"machine": machine, "rows": [asdict(row) for row in rows]}, indent=2))
    else:
        print_table(machine, rows)


def print_table(machine: str, rows: list[Row]) -> None:
    """One table of all rows."""
    table = Table(title=machine, box=box.SIMPLE_HEAD, pad_edge=False, title_justify="left")
    for heading in ("figure", "case", "ours", "yardstick", "ratio", "target", ""):
        table.add_column(heading, justify="right" if heading in {"ours", "yardstick", "ratio"} else "left")
    for row in rows:
        verdict = "" if row.met is None else "met" if row.met else "MISSED"
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        table.add_row(row.figure, row.case, row.ours, row.yardstick, ratio, row.target, verdict)
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
