"""`archive`: bring summaries in that no daemon saw, by the daemon's own way.

The rule: what is a summary, what judges it and how it is archived is decided where the daemon's files are decided; the
sources are left alone, and nobody is told unless that is asked for.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Annotated, Final

import typer

from modelwarden.archive.folders import INDEX_FILE
from modelwarden.archive.outcomes import Outcome, Postponed
from modelwarden.archive.record import ASSESSMENTS_FILE
from modelwarden.archive.shelf import REASON_FILE
from modelwarden.cli.answers import print_answer
from modelwarden.cli.formats import named_format
from modelwarden.cli.lines import hanging
from modelwarden.cli.options import Archive, Config, Json
from modelwarden.cli.progress import Bar, shown
from modelwarden.cli.screen import visible, width
from modelwarden.cli.shelf import NOT_ARCHIVED, OUTCOMES, REJECTED, outcome_of, run_of, said_of
from modelwarden.cli.translating import FormatName, PolicyName, endings_now, is_wanted, policies_as_told, translated
from modelwarden.config import load_settings
from modelwarden.config.places import state_dir_of
from modelwarden.errors import RejectSummary, RetryLater, StopService
from modelwarden.filesystems import show_path
from modelwarden.fingerprint import Fingerprint
from modelwarden.intake.reading import Gone, Moving, NotAFile, Refused, TooDense, TooLarge, Whole, read_at_rest
from modelwarden.intake.scan import Root, Scan
from modelwarden.pipeline.groups import Changed
from modelwarden.pipeline.policies import Policies
from modelwarden.pipeline.walk import Found, Pipeline
from modelwarden.service.endings import Endings
from modelwarden.service.logs import configure_logs
from modelwarden.wiring.pipeline import open_pipeline

NOT_ALL: Final = 1
"""Exit code if a file was rejected, or could not be archived now."""

SILENT_OWNER: Final = "import"
"""The `daemon_id` of a run that was brought in silently: no daemon announces it."""

BATCH: Final = 64
"""Most files that are read and archived together."""

_OURS: Final = frozenset({ASSESSMENTS_FILE, INDEX_FILE, REASON_FILE})
"""What lies beside summaries in an archive, and is none."""


def archive_files(
    paths: Annotated[list[str], typer.Argument(metavar="FILE|DIR...", help="Summaries, or folders that hold them.")],
    notify: Annotated[bool, typer.Option("--notify", help="Tell the destinations, as of new runs.")] = False,
    format_name: FormatName = None,
    policy: PolicyName = None,
    config: Config = None,
    archive: Archive = None,
    as_json: Json = False,
) -> None:
    """Archive summaries that are there already.

    As the daemon would, and it may be running. Folders are looked through with all below them, for *.json, or for what
    a trainer's format takes: that of their [[watch]], or --format. A file whose training goes on is left alone, unless
    it is named itself. Sources are left alone. What is no summary goes to the rejected shelf. Exit code 1 if a file was
    rejected or could not be archived.

    Example: modelwarden archive /mnt/old/summaries
    """
    settings, _ = load_settings(config, archive=archive)
    policies = policies_as_told(settings, format_name, policy)
    own = (settings.archive_dir, state_dir_of(settings.archive_dir, settings.state_dir))
    excluded = [os.path.realpath(each) for each in own]
    told_format = None if format_name is None else named_format(settings, format_name)
    wanted = partial(is_wanted, policies=policies, told=told_format)
    # By file whether it was named itself.
    files = {file: not os.path.isdir(path) for path in paths for file in _files(path, excluded, wanted)}
    configure_logs("error", settings.log.format)
    told: list[dict[str, object]] = []
    counts = dict.fromkeys(OUTCOMES, 0)
    owner = None if notify else SILENT_OWNER
    with (
        Bar("archiving", 2 * len(files)) as bar,  # each is read, and then archived
        open_pipeline(settings, announces=notify, owner=owner, policies=policies, progress=bar.alive) as pipeline,
    ):
        pipeline.upkeep.recover()
        read = partial(_read, pipeline, policies, settings.intake.max_bytes, endings_now())
        for file, outcome in _outcomes(pipeline, read, files, bar):
            bar.step()
            said, kind = said_of(outcome), outcome_of(outcome)
            counts[kind] += 1
            if as_json:
                told.append({"file": show_path(file), "outcome": kind, "run": run_of(outcome), "said": said})
            else:
                bar.say("\n".join(hanging(f"{show_path(file)}: {visible(said)}", width())))
    if as_json:
        print_answer(files=told)
    else:
        typer.echo(", ".join(f"{count} {name}" for name, count in counts.items() if count) or "no file is there")
    if counts[REJECTED] or counts[NOT_ARCHIVED]:
        raise typer.Exit(NOT_ALL)


def _files(path: str, excluded: Sequence[str], wanted: Callable[[str], bool | None]) -> Iterator[str]:
    """A file, or those below a folder, in order; of an archive's folders the trainer's files alone.

    Args:
        path: of the file or the folder.
        excluded: folders that are not looked into.
        wanted: whether a format takes a file; None: it is left to the file's name.

    Raises:
        StopService: there is neither, or a folder can't be read.
    """
    absolute = os.path.abspath(path)
    if not os.path.isdir(absolute):
        if not os.path.lexists(absolute):
            raise StopService("there is no such file or folder", where=show_path(absolute))
        yield absolute
        return
    scan = Scan(Root(absolute, ("*",)), excluded)
    found = sorted(file for file, _ in shown(scan, None, "looking"))
    summaries = Root(absolute)
    for file in found:
        name, is_wanted_by_format = os.path.basename(file), wanted(file)
        if (summaries.takes(name) and name not in _OURS) if is_wanted_by_format is None else is_wanted_by_format:
            yield file
    for place, reason in scan.problems:
        raise StopService(f"can't be read ({reason})", where=show_path(place))


def _outcomes(
    pipeline: Pipeline, look: Callable[[str, bool], Found | Outcome], files: Mapping[str, bool], bar: Bar
) -> Iterator[tuple[str, Outcome]]:
    """What became of each file, in batches as the daemon makes them."""
    waiting = iter(files.items())
    while batch := list(islice(waiting, BATCH)):
        read: list[tuple[str, Found]] = []
        for file, is_named in batch:
            found = look(file, is_named)
            bar.step()
            if isinstance(found, Found):
                read.append((file, found))
            else:
                yield file, found
        yield from zip(
            (file for file, _ in read),
            pipeline.process([found for _, found in read], final=True, on_purpose=True),
            strict=True,
        )


def _read(  # noqa: PLR0911 - one a case
    pipeline: Pipeline, policies: Policies, max_bytes: int, endings: Endings, file: str, is_named: bool
) -> Found | Outcome:
    """The bytes of a file that stands still, or what becomes of one that can't be read."""
    match read_at_rest(file, max_bytes):
        case Whole(data, fingerprint):
            try:
                found = translated(Found(file, data, fingerprint), policies, max_bytes, None if is_named else endings)
            except Changed:
                return Postponed(RetryLater("changes while it is read", hint="try again when it is written"))
            except RejectSummary as error:
                return _reject(pipeline, file, data, fingerprint, error)
            hint = "name the file itself to archive it as it is"
            return found or Postponed(RetryLater("its training goes on", hint=hint))
        case TooLarge(head, fingerprint) | TooDense(head, fingerprint) as large:
            return _reject(pipeline, file, head, fingerprint, large.error(max_bytes))
        case Gone():
            return Postponed(RetryLater("it is gone"))
        case NotAFile(kind):
            return Postponed(RetryLater(f"is {kind}", hint="a summary is a regular file"))
        case Refused(reason):
            return Postponed(RetryLater(f"can't be read ({reason})"))
        case Moving():
            return Postponed(RetryLater("changes while it is read", hint="try again when it is written"))


def _reject(pipeline: Pipeline, file: str, data: bytes, fingerprint: Fingerprint, error: RejectSummary) -> Outcome:
    try:
        return pipeline.reject(file, data, fingerprint, error)
    except RetryLater as trouble:
        return Postponed(trouble)
