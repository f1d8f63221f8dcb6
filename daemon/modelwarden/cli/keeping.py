"""`prune` and `export`: letting go of old runs, and the catalog for a notebook.

The rule: a run is removed whole or not at all, and only if no rule keeps it; without a rule everything is kept. What
people decided stays.
"""

import contextlib
import csv
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any, Final, NamedTuple

import typer

from modelwarden.cli.answers import print_answer
from modelwarden.cli.asking import NOTHING, when
from modelwarden.cli.moments import parse_span
from modelwarden.cli.options import Archive, Config, Json, asking_as_set, settings_for_asking
from modelwarden.cli.progress import Bar, shown
from modelwarden.cli.screen import is_terminal, paged
from modelwarden.cli.tables import Cell, print_table
from modelwarden.durable import refusal
from modelwarden.errors import NotTheArchive, RetryLater, StopService
from modelwarden.filesystems import show_path
from modelwarden.gate.assessment import Assessment
from modelwarden.gate.deployment import choose_checkpoint
from modelwarden.gate.run import RunRecord
from modelwarden.gate.timestamp import format_timestamp
from modelwarden.questions import Questions

if TYPE_CHECKING:
    from modelwarden.config import Settings

AT_ONCE: Final = 256
"""Runs that are removed under one lock."""


ROW_GROUP: Final = 1 << 14
"""Rows that are written to a parquet file at once; the rows of all runs would fill the memory."""


class _Verdict(NamedTuple):
    """What becomes of a run, and which rules keep it."""

    run: RunRecord
    keeps: tuple[str, ...]


def prune(
    keep_last: Annotated[
        int | None, typer.Option("--keep-last", min=1, metavar="N", help="The youngest so many.", show_default=False)
    ] = None,
    keep_within: Annotated[
        str | None, typer.Option("--keep-within", metavar="TIME", help="Dated within, such as 90d, 12w.")
    ] = None,
    keep_approved: Annotated[bool, typer.Option("--keep-approved", help="With a model that may be deployed.")] = False,
    keep_reviewed: Annotated[bool, typer.Option("--keep-reviewed", help="About which somebody decided.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be removed, and remove nothing.")] = False,
    config: Config = None,
    archive: Archive = None,
    as_json: Json = False,
) -> None:
    """Remove the runs that no rule keeps. Without a rule nothing is removed.

    Whole runs: index.json and the catalog follow, and a message that is still owed is sent all the same. Decisions in
    `reviews/` stay, and so do the trainers' files: `pruned/` records what was removed, and no daemon archives it again.
    Exit code 1 if there is nothing to remove.

    Example: modelwarden prune --keep-last 100 --keep-within 90d --keep-approved --keep-reviewed --dry-run
    """
    if keep_last is None and keep_within is None and not keep_approved and not keep_reviewed:
        raise StopService("no rule is given, so every run is kept", where="prune", hint=_USAGE)
    now = time.time()
    since = None if keep_within is None else _since(keep_within, now)
    settings = None if dry_run else settings_for_asking(config, archive)  # who only asks needs to know where it is
    with asking_as_set(config, archive) as questions:
        runs = questions.runs(1 << 31, now).shown
        verdicts = [
            _Verdict(run, tuple(_rules(questions, run, at, len(runs), keep_last, since, keep_approved, keep_reviewed)))
            for at, run in enumerate(shown(runs, len(runs), "looking"))
        ]
    gone = {each.run.timestamp: each.run for each in verdicts if not each.keeps}
    if settings is not None and gone:
        removed, spared = _remove(
            settings, gone, lambda asked, run: tuple(_decided(asked, run, keep_approved, keep_reviewed))
        )
        verdicts = [each._replace(keeps=each.keeps or spared.get(each.run.timestamp, ())) for each in verdicts]
        verdicts = [each for each in verdicts if each.keeps or each.run.timestamp in removed]
    _tell(verdicts, now, dry_run=dry_run, as_json=as_json)
    if all(each.keeps for each in verdicts):
        raise typer.Exit(NOTHING)


def _remove(
    settings: "Settings", gone: Mapping[str, RunRecord], rules: Callable[[Questions, RunRecord], tuple[str, ...]]
) -> tuple[set[str], Mapping[str, tuple[str, ...]]]:
    """Remove runs; return which, and which are kept by a rule after all: somebody decided about one meanwhile.

    Raises:
        RetryLater: the lock could not be had, or the disk refused; the message says how many are gone.
    """
    from modelwarden.service.logs import configure_logs  # noqa: PLC0415 - this one alone
    from modelwarden.wiring.pipeline import open_pipeline  # noqa: PLC0415 - likewise

    names = list(gone)
    removed: set[str] = set()
    spared: dict[str, tuple[str, ...]] = {}
    configure_logs("warning", settings.log.format)
    with (
        Bar("removing", len(names)) as bar,
        open_pipeline(settings, announces=False, progress=bar.alive) as pipeline,
    ):
        questions = Questions(pipeline.archive.root)

        def spares(name: str) -> bool:
            if keeps := rules(questions, gone[name]):
                spared[name] = keeps
            return bool(keeps)

        try:
            pipeline.upkeep.recover()
            for start in range(0, len(names), AT_ONCE):
                for name in pipeline.upkeep.prune(names[start : start + AT_ONCE], spares):
                    removed.add(name)
                    bar.step()
        except NotTheArchive:
            raise
        except RetryLater as error:
            count = sum(not os.path.lexists(pipeline.archive.tree.path_of(name)) for name in names)
            error.what += f"; {count} of {len(names)} runs are removed, the others are whole"
            raise
    return removed, spared


_USAGE: Final = "modelwarden prune --keep-last N --keep-within 90d --keep-approved --keep-reviewed [--dry-run]"


def _since(text: str, now: float) -> str:
    moment = datetime.fromtimestamp(max(0.0, now - parse_span(text, "--keep-within")), UTC)
    return format_timestamp(moment)


def _rules(
    questions: Questions,
    run: RunRecord,
    at: int,
    count: int,
    keep_last: int | None,
    since: str | None,
    keep_approved: bool,
    keep_reviewed: bool,
) -> Iterator[str]:
    """Which rules keep a run."""
    if keep_last is not None and at >= count - keep_last:
        yield "last"
    if since is not None and run.timestamp >= since:
        yield "within"
    yield from _decided(questions, run, keep_approved, keep_reviewed)


def _decided(questions: Questions, run: RunRecord, keep_approved: bool, keep_reviewed: bool) -> Iterator[str]:
    """Which rules about what a person decides keep a run."""
    if keep_approved and (run.approved_count or questions.approves(run)):
        yield "approved"
    if keep_reviewed and questions.is_reviewed(run):
        yield "reviewed"


def _tell(verdicts: Sequence[_Verdict], now: float, *, dry_run: bool, as_json: bool) -> None:
    gone = [each.run for each in verdicts if not each.keeps]
    if as_json:
        print_answer(
            dry_run=dry_run,
            removed=[run.timestamp for run in gone],
            kept=[{"run": each.run.timestamp, "rules": each.keeps} for each in verdicts if each.keeps],
        )
        return
    with paged():
        if gone:
            print_table(
                ("run", "archived", "APPROVED", "REVIEW", "DROP"),
                [
                    (
                        Cell(run.timestamp, "red"),
                        when(run.archived_at, now),
                        *(str(count) for count in run.counts.values()),
                    )
                    for run in gone
                ],
                right=("APPROVED", "REVIEW", "DROP"),
            )
        said = "would be removed" if dry_run else "removed"
        typer.echo(f"{len(gone)} {said}, {len(verdicts) - len(gone)} kept")


class Format(StrEnum):
    """What `export` writes."""

    CSV = "csv"
    PARQUET = "parquet"


_COLUMNS: Final = (
    *("run", "run_name", "archived_at", "policy", "symbol", "classification", "deployable", "reviewed_by"),
    *("checkpoint", "flags", "best_idx", "checkpoint_update", "last_checkpoint", "peak", "decline", "largest_fall"),
)


def export(
    file: Annotated[
        str | None, typer.Argument(metavar="FILE", help="Where to.", show_default="standard output, for csv")
    ] = None,
    form: Annotated[
        Format, typer.Option("--format", metavar="NAME", help="csv, or parquet (extra `parquet`).")
    ] = Format.CSV,
    config: Config = None,
    archive: Archive = None,
    as_json: Json = False,
) -> None:
    """Write the catalog as one table for a notebook.

    A row a run and model, a column a metric. With --json it says what was written to the file.

    Example: modelwarden export --format csv models.csv
    """
    if form is Format.PARQUET and file is None:
        raise StopService("parquet is written to a file: name one", where="export")
    if as_json and file is None:
        raise StopService("the table takes standard output: name a file for it", where="--json")
    with asking_as_set(config, archive) as questions:
        metrics = questions.metrics()
        count, everything = questions.everything()
        if file is not None or not is_terminal():  # there the rows themselves are seen to come
            everything = shown(everything, count, "exporting")
        rows = (_row(run, model, metrics, deployable, by) for run, model, deployable, by in everything)
        columns = [*_COLUMNS, *(_column(metric) for metric in metrics)]
        if form is Format.PARQUET:
            written = _write_parquet(str(file), columns, rows)
        elif file is None:
            written = _write_csv(sys.stdout, columns, rows)
        else:
            with _new_file(file) as stream:
                written = _write_csv(stream, columns, rows)
    if file is not None and as_json:
        print_answer(file=show_path(os.path.abspath(file)), written_as=form, rows=written, columns=columns)
    elif file is not None and is_terminal():
        typer.echo(show_path(os.path.abspath(file)))


def _column(metric: str) -> str:
    """A metric's column; one that is called like another column gets a name of its own."""
    return f"metric_{metric}" if metric in _COLUMNS else metric


def _row(run: RunRecord, model: Assessment, metrics: Sequence[str], deployable: bool, by: str | None) -> Sequence[Any]:
    figures = {**model.others, **dict(zip(run.policy.metrics, model.values, strict=True))}
    checkpoint = choose_checkpoint(model).checkpoint if deployable else None
    return (
        run.timestamp,
        run.run_name,
        run.archived_at,
        run.policy.id,
        model.symbol,
        model.classification.value,
        deployable,
        by,
        None if checkpoint is None else str(checkpoint),
        " ".join((*model.flags, *model.remarks)),
        model.best_idx,
        None if model.checkpoint_update is None else str(model.checkpoint_update),
        None if model.last_checkpoint is None else str(model.last_checkpoint),
        model.peak,
        model.decline,
        model.largest_fall,
        *(figures.get(metric) for metric in metrics),
    )


def _write_csv(stream: Any, columns: Sequence[str], rows: Iterator[Sequence[Any]]) -> int:
    """Write a table; return how many rows it has below its heading."""
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(columns)
    stream.flush()  # the columns are there before the first run is read
    count = 0
    for row in rows:
        writer.writerow(["" if cell is None else _csv_text(cell) for cell in row])
        count += 1
    return count


_FORMULA: Final = re.compile(r"[=+@\t\r-]")


def _csv_text(cell: object) -> object:
    """A cell; text that a spreadsheet would take for a formula is marked as text."""
    if isinstance(cell, bool):
        return json.dumps(cell)
    return f"'{cell}" if isinstance(cell, str) and _FORMULA.match(cell) else cell


def _write_parquet(file: str, columns: Sequence[str], rows: Iterator[Sequence[Any]]) -> int:
    """The same as parquet."""
    try:
        import pyarrow as pa  # noqa: PLC0415 - an extra, and heavy
        from pyarrow import parquet  # noqa: PLC0415
    except ImportError:
        hint = "pip install 'modelwarden[parquet]', or --format csv"
        raise StopService("parquet needs pyarrow", where="--format", hint=hint) from None
    kinds = {"archived_at": pa.timestamp("us", tz="UTC"), "deployable": pa.bool_(), "best_idx": pa.int64()}
    kinds |= dict.fromkeys(("peak", "decline", "largest_fall", *columns[len(_COLUMNS) :]), pa.float64())
    schema = pa.schema([pa.field(name, kinds.get(name, pa.string())) for name in columns])
    moment = columns.index("archived_at")
    count = 0
    try:
        with parquet.ParquetWriter(file, schema) as writer:
            while group := list(islice(rows, ROW_GROUP)):
                table = [list(column) for column in zip(*group, strict=True)]
                table[moment] = [_moment(each) for each in table[moment]]
                arrays = [pa.array(column, field.type) for column, field in zip(table, schema, strict=True)]
                writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
                count += len(group)
    except OSError as error:
        raise refusal("write", os.path.abspath(file), error) from error
    return count


def _moment(text: str) -> datetime | None:
    """A run's `archived_at` as a moment; None for what is none."""
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


@contextlib.contextmanager
def _new_file(file: str) -> Iterator[Any]:
    try:
        with open(file, "w", encoding="utf-8", newline="") as stream:
            yield stream
    except OSError as error:
        raise refusal("write", os.path.abspath(file), error) from error
