"""The real walk over the fuzz's inputs, and what must hold of each input and of the archive afterwards.

The rule: nothing is faked. Real bytes go through a real pipeline into a real archive and state file; what is checked is
read back from disk.

Run as `python -m fuzz.walk FOLDER` this walks a few inputs of each kind; run as `python -m fuzz.walk FOLDER FILE` it
walks that one and prints how much memory that took.
"""

import hashlib
import json
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from markdown_it import MarkdownIt
from markdown_it.token import Token

from fuzz.corpus import MEGABYTE, Fate, Input, a_few_of_each
from invariants import OWN_FILES, assert_archive_whole, assert_nothing_half_made
from modelwarden.archive.outcomes import AlreadyArchived, Archived, Outcome, Rejected
from modelwarden.archive.publishing import Archive
from modelwarden.fingerprint import Fingerprint
from modelwarden.gate.json_object import PROBLEMS_NAMED
from modelwarden.gate.policy import Policy
from modelwarden.pipeline.policies import Policies
from modelwarden.pipeline.walk import Found, Pipeline
from modelwarden.pipeline.workers import Workers
from modelwarden.state.database import Database
from modelwarden.state.messages import Route
from processes import outbox_of

BATCH_FILES: Final = 64
BACKLOG_FILES: Final = 512
"""Inputs in a batch: as many as the pipeline publishes together, or so many more that workers stage them."""

BATCH_BYTES: Final = 64 * MEGABYTE
"""Bytes in a batch: the daemon's own bound."""

NOW: Final = 1_735_000_000.0
EVERYTHING: Final = Route("team", frozenset({"APPROVED", "REVIEW", "DROP", "REJECTED"}))

LONGEST_REASON: Final = 1_000
"""Characters of a reason, whatever the input: it goes into a message."""

LONGEST_REPORT: Final = 20_000
"""Bytes of the longest report that is parsed: a parser written in Python takes its time."""

FILES_OF_REJECTED: Final = {"as_found", "reason.json"}

_WHOLE_FILE: Final = re.compile(
    r"line \d+ column \d+"
    r"|^(the file is|the top level is|no models|both \w+ and \w+ could|two models are called|the key )"
)
"""What a reason says where its place is a line and a column, or the file as a whole."""

_MARKDOWN: Final = MarkdownIt("commonmark").enable(["table", "strikethrough"])
_NEVER_IN_A_REPORT: Final = {
    *("html_inline", "html_block", "link_open", "image", "fence", "code_block", "blockquote_open", "hr", "em_open"),
    *("s_open", "hardbreak", "softbreak", "ordered_list_open"),
}


class Walk:
    """A pipeline over a new archive in a folder of its own, and what it made of every input so far.

    Args:
        folder: empty; the archive lies three folders below it, so that a way out of it would still be seen.
        workers: how many processes stage; they come in where there are at least two, and batches are larger then.

    Attributes:
        inputs: how many different inputs were walked.
        archive: the archive directory.
    """

    def __init__(self, folder: Path, workers: int = 0) -> None:
        self._folder = folder
        self._batch_files = BACKLOG_FILES if workers else BATCH_FILES
        self._top = folder / "a" / "b" / "c"
        self._top.mkdir(parents=True)
        self.archive = self._top / "archive"
        self._stack = ExitStack()
        forked = self._stack.enter_context(closing(Workers(workers)))
        database = Database(str(self._top / "state"), "2024-12-24T15:30:00Z")
        self._stack.callback(database.close)
        archive = Archive(str(self.archive), database.daemon_id)
        self._stack.callback(archive.close)
        self._pipeline = Pipeline(
            archive,
            database,
            Policies(Policy.from_config()),
            [EVERYTHING],
            owner=database.daemon_id,
            host="trainer-7",
            clock=lambda: NOW,
            deadline_seconds=3600.0,
            workers=forked,
        )
        self._stack.callback(self._pipeline.close)
        self._pipeline.upkeep.recover()
        self._archived: set[str] = set()
        self._rejected: set[str] = set()
        self._files = 0

    @property
    def inputs(self) -> int:
        """How many different inputs were walked."""
        return len(self._archived) + len(self._rejected)

    def close(self) -> None:
        """End the pipeline; the checks of the whole come after it."""
        self._stack.close()

    def walk(self, inputs: Iterable[Input]) -> None:
        """Walk them in batches as the daemon would, each batch with one input of the last that came again."""
        again: list[Input] = []
        for batch in _batches(inputs, self._batch_files):
            self._walk_batch([*batch, *again])
            again = batch[:1]

    def process(self, batch: Sequence[Input]) -> Sequence[Outcome]:
        """Walk one batch; nothing is checked."""
        return self._pipeline.process([self._found(each) for each in batch], final=True)

    def _walk_batch(self, batch: Sequence[Input]) -> None:
        try:
            outcomes = self.process(batch)
        except Exception as error:
            raise AssertionError(f"the walk ended with {error!r} over\n{self._culprit(batch)}") from error
        for each, outcome in zip(batch, outcomes, strict=True):
            try:
                self._check(each, outcome)
            except AssertionError as error:
                raise AssertionError(f"{error}\nof {each}") from error

    def _culprit(self, batch: Sequence[Input]) -> str:
        """The input of the batch that fails also on its own; the batch's size where none does."""
        for each in batch:
            try:
                self.process([each])
            except Exception:  # noqa: BLE001 - whichever it is, it is reported
                return str(each)
        return f"{len(batch)} inputs together, and over none of them alone"

    def _found(self, each: Input) -> Found:
        """The input as a file that was read: every one is a file of its own."""
        self._files += 1
        fingerprint = Fingerprint(1, self._files, len(each.data), each.mtime, each.mtime)
        return Found(f"/training/{self._files}/{each.name}", each.data, fingerprint)

    def _check(self, each: Input, outcome: Outcome) -> None:
        """The input became a run or was rejected with its place, as promised, and as it did before."""
        digest = hashlib.sha256(each.data).hexdigest()
        match outcome:
            case Archived(run):
                assert digest not in self._archived, "archived twice"
                assert run.sha256 == digest
                self._archived.add(digest)
                self._check_run(self.archive / run.timestamp, each)
            case AlreadyArchived():
                assert digest in self._archived, "said to be archived, and it never was"
            case Rejected() as rejected:
                self._rejected.add(digest)
                self._check_rejected(self.archive / "rejected" / digest[:16], each, rejected.reason)
            case _:
                raise AssertionError(f"{outcome}, which is neither archived nor rejected")
        assert not self._archived & {digest} or not self._rejected & {digest}, "both archived and rejected"
        promised = {Fate.ARCHIVED: self._archived, Fate.REJECTED: self._rejected}.get(each.fate)
        assert promised is None or digest in promised, f"{each.fate.name} was promised, {outcome!r:.500} came of it"

    def _check_run(self, folder: Path, each: Input) -> None:
        """The bytes untouched, strict JSON, names to the letter, and a report in which nothing is markup."""
        assert (folder / "summary.json").read_bytes() == each.data
        document = strict_json((folder / "model_assessments.json").read_bytes())
        symbols = tuple(model["symbol"] for model in document["models"])
        assert each.symbols is None or symbols == each.symbols
        for symbol in symbols:
            assert 1 <= len(symbol) <= 128, f"a symbol of {len(symbol)} characters was let through"
            assert not _controls(symbol), f"the symbol {symbol!r} holds control characters"
        report = (folder / "recommendations.md").read_bytes()
        if len(report) <= LONGEST_REPORT:
            assert_report_is_no_strangers(report.decode("utf-8"), document)

    def _check_rejected(self, folder: Path, each: Input, reason: str) -> None:
        """The bytes as found, and a reason that is strict JSON, one short line, and names the place."""
        assert folder.is_dir(), f"not kept: {folder}"
        assert set(os.listdir(folder)) == FILES_OF_REJECTED
        assert (folder / "as_found").read_bytes() == each.data
        document = strict_json((folder / "reason.json").read_bytes())
        assert document["reason"] == reason
        where, what = document["where"], document["what"]
        assert isinstance(where, str)
        assert isinstance(what, str)
        assert what
        assert where or _WHOLE_FILE.search(what), f"the reason names no place: {reason}"
        lines = reason.split("\n")
        problems = [": ".join(filter(None, (e["where"], e["what"], e["hint"]))) for e in document["problems"]]
        assert lines[: len(problems)] == problems
        assert len(problems) <= PROBLEMS_NAMED
        assert len(lines) - len(problems) == (document["more"] > 0)
        assert max(map(len, lines)) <= LONGEST_REASON
        assert all(line.isprintable() for line in lines), f"the reason holds characters that are no text: {reason!r}"
        assert _related(where, each.place), f"the fault is at {each.place}, the reason is {reason}"

    def assert_whole(self) -> None:
        """After `close`: the archive, the outbox and the folder hold what came of the inputs, and nothing else."""
        entries = assert_archive_whole(self.archive)
        assert {entry["sha256"] for entry in entries} == self._archived
        rejected = self.archive / "rejected"
        kept = set(os.listdir(rejected)) if rejected.exists() else set()
        assert kept == {digest[:16] for digest in self._rejected}
        owed = sorted(row["event"] for row in outbox_of(self._top / "state"))
        runs = (f"run:{digest[:16]}" for digest in self._archived)
        assert owed == sorted([*runs, *(f"rejected:{digest[:16]}" for digest in self._rejected)])
        assert_nothing_half_made(self.archive)
        self._assert_nothing_outside({entry["timestamp"] for entry in entries})

    def _assert_nothing_outside(self, runs: set[str]) -> None:
        """Every folder holds what belongs there: whatever else there is was written by way of a name."""
        assert os.listdir(self._folder) == ["a"]
        assert os.listdir(self._folder / "a") == ["b"]
        assert os.listdir(self._folder / "a" / "b") == ["c"]
        assert set(os.listdir(self._top)) == {"archive", "state"}
        state = set(os.listdir(self._top / "state"))
        assert all(name.startswith("modelwarden.sqlite") for name in state), state
        found = set(os.listdir(self.archive)) - runs
        assert found <= OWN_FILES | {".staging", "rejected"}, found


@contextmanager
def walking(folder: Path, workers: int = 0) -> Iterator[Walk]:
    """A walk that is closed, and whose archive is checked as a whole, where the block ends well."""
    walk = Walk(folder, workers)
    try:
        yield walk
    finally:
        walk.close()
    walk.assert_whole()


def strict_json(data: bytes) -> dict[str, Any]:
    """The object in the bytes. NaN and the like, a key that comes twice, bytes that are no UTF-8 fail the test."""
    document = json.loads(data.decode("utf-8"), parse_constant=_refuse_constant, object_pairs_hook=_refuse_twice)
    assert isinstance(document, dict)
    return document


def assert_report_is_no_strangers(report: str, document: Mapping[str, Any]) -> None:
    """The report's headings, table and list are the project's own; a stranger's words stand in code spans alone."""
    blocks = _MARKDOWN.parse(report)
    tokens = [token for block in blocks for token in (block, *(block.children or ()))]
    never = _NEVER_IN_A_REPORT & {token.type for token in tokens}
    assert not never, f"markup in the report: {sorted(never)}"
    headings = [inside.content for opening, inside in pairwise(blocks) if opening.type == "heading_open"]
    kinds = [heading.split(" ")[0] for heading in headings]
    assert kinds == ["Run", "APPROVED", "REVIEW", "DROP", "Policy"], headings
    assert sum(token.type == "table_open" for token in tokens) == 1
    models = document["models"]
    lines = sum(_is_model(opening, inside) for opening, inside in pairwise(blocks))
    assert lines == len(models), f"{len(models) - lines} models are not in a code span"
    spans = [token.content for token in tokens if token.type == "code_inline"]
    names = [model["symbol"] for model in models]
    if document["run_name"] is not None:
        names.append(document["run_name"])
    missing = [name for name in names if _shown(name) not in spans]
    assert not missing, f"not in a code span: {missing}"


def _is_model(opening: Token, inside: Token) -> bool:
    """Whether a line is a model's first: its symbol, in bold."""
    children = [child.type for child in inside.children or () if child.type != "text" or child.content]
    return opening.type == "paragraph_open" and children[:2] == ["strong_open", "code_inline"]


def _shown(name: str) -> str:
    """A name as a report shows it: what can't be printed as an escape."""
    return "".join(each if each.isprintable() or each == "\u200d" else f"\\u{ord(each):04x}" for each in name)


def _controls(text: str) -> set[str]:
    return {each for each in text if ord(each) < 32 or 0x7F <= ord(each) < 0xA0 or 0xD800 <= ord(each) < 0xE000}


def _related(where: str, place: str) -> bool:
    """Whether the reason's place is the fault's: the same, inside it, or what holds it."""
    if where.endswith(".checkpoints"):  # the fault may be a history that is too short for the ids beside it
        return True
    holder = re.sub(r"(\.\w+|\[\d+\])$", "", place)
    return where.startswith(holder) or place.startswith(where)


def _batches(inputs: Iterable[Input], files: int) -> Iterator[list[Input]]:
    batch: list[Input] = []
    size = 0
    for each in inputs:
        batch.append(each)
        size += len(each.data)
        if len(batch) >= files or size > BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _refuse_constant(constant: str) -> float:
    raise AssertionError(f"{constant} is not strict JSON")


def _refuse_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    assert len(dict(pairs)) == len(pairs), f"a key stands twice in {[key for key, _ in pairs]}"
    return dict(pairs)


def peak_memory() -> int:
    """The most memory, in bytes, that this process had so far; getrusage would count the parent's before the exec."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return 1024 * int(status.partition("VmHWM:")[2].split(maxsplit=1)[0])


def measure(folder: Path, file: Path) -> int:
    """How many bytes the peak of this process's memory grows while it reads and walks a file; the checks left out."""
    walk = Walk(folder)
    walk.walk([Input(b'{"models":[{"symbol":"A","fitness_history":[0.5,0.9]}]}'), Input(b"{"), Input(b'{"models":[]}')])
    before = peak_memory()
    walk.process([Input(file.read_bytes())])
    after = peak_memory()
    walk.close()
    return after - before


if __name__ == "__main__":
    if len(sys.argv) > 2:
        print(measure(Path(sys.argv[1]), Path(sys.argv[2])))  # noqa: T201
    else:
        with walking(Path(sys.argv[1])) as walk_of_few:
            walk_of_few.walk(a_few_of_each())
