"""Decisions as files: `reviews/{run}/{number}.json`, each with the sha256 of the one before it: a chain, and its end.

The rule: a decision's file is never changed, and nothing here writes. What can't be read decides nothing: who asks for
approved models is told so, and gets none.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import jiter

from modelwarden.archive.numbered import number_of
from modelwarden.durable import refusal
from modelwarden.errors import UnknownRun
from modelwarden.gate.assessment import Classification
from modelwarden.gate.decision import Decision, Verb
from modelwarden.gate.timestamp import is_run_name

REVIEWS: Final = "reviews"
HEAD_FILE: Final = "head.json"
"""Says which decision is the last: without it, to remove the last one would leave no trace."""

SCHEMA_VERSION: Final = 1
LONGEST_REASON: Final = 2000
LONGEST_NAME: Final = 128

_TYPES: Final[dict[str, Any]] = {
    "number": int,
    "override": bool,
    "checkpoint": int | str | None,
}
"""Of a decision's fields; all others are text."""


class Kept(NamedTuple):
    """A decision's file.

    Attributes:
        where: the file, below the archive.
        number: as its name has it.
        run: the folder's name.
        digest: sha256 of its bytes, which the next one names.
        decision: what it says; None if that can't be read.
        problem: why not, or what of it is not as it must be; "" if nothing.
    """

    where: str
    number: int
    run: str
    digest: str
    decision: Decision | None
    problem: str


class Head(NamedTuple):
    """The end of the chain: the last decision's number and digest; 0 and "" before the first."""

    number: int = 0
    digest: str = ""


class Known(NamedTuple):
    """What a state knows of the decisions.

    Attributes:
        looks: how each folder looked when the state had all that is in it.
        end: the last decision that it ever saw, also if that is not there any more.
    """

    looks: Mapping[str, str] = {}
    end: Head = Head()


class News(NamedTuple):
    """What of the decisions a state does not know yet.

    Attributes:
        looks: how each folder looks that changed since; "" if it is gone, or may change and look the same.
        kept: the files in these folders, by number, damaged ones too.
    """

    looks: Mapping[str, str]
    kept: Sequence[Kept]

    @property
    def files(self) -> list[tuple[str, Decision]]:
        """The decisions among them that can be read, each with the sha256 of its file."""
        return [(each.digest, each.decision) for each in self.kept if each.decision is not None and not each.problem]


def encode_decision(decision: Decision) -> bytes:
    """The file, a line a field."""
    return _json({"schema_version": SCHEMA_VERSION, **decision._asdict()}, indent=2)


def decode_decision(data: bytes) -> Decision:
    """The decision back. Raises ValueError if the bytes are not what `encode_decision` writes."""
    document = jiter.from_json(data)
    if not isinstance(document, dict) or document.get("schema_version") != SCHEMA_VERSION:
        raise ValueError("is no decision of a known schema")
    fields: dict[str, Any] = {name: document.get(name) for name in Decision._fields}
    for name, value in fields.items():
        kinds = _TYPES.get(name, str)
        if not isinstance(value, kinds) or (isinstance(value, bool) and kinds is not bool):
            raise ValueError(f"{name} is {value!r}")
    return Decision(
        **{**fields, "verb": Verb(fields["verb"]), "classification": Classification(fields["classification"])}
    )


def encode_head(head: Head) -> bytes:
    """The file that says which decision is the last."""
    return _json({"schema_version": SCHEMA_VERSION, **head._asdict()})


def _json(value: Mapping[str, object], indent: int | None = None) -> bytes:
    from pydantic_core import to_json  # noqa: PLC0415 - for who writes; who asks does not wait for it

    return to_json(value, indent=indent) + b"\n"


def read_head(root: str) -> Head | None:
    """Which decision is the last; None if the file is damaged, the beginning if there is none."""
    try:
        with open(os.path.join(root, REVIEWS, HEAD_FILE), "rb") as stream:
            document = jiter.from_json(stream.read())
        number, digest = document["number"], document["digest"]
    except FileNotFoundError:
        return Head()
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return Head(number, digest) if isinstance(number, int) and isinstance(digest, str) else None


def reviewed_runs(root: str) -> list[str]:
    """The names of the runs about which something was decided, oldest first. Raises RetryLater if the disk refuses."""
    return sorted(name for name in _listed(os.path.join(root, REVIEWS)) if is_run_name(name))


def read_kept(root: str, run: str) -> Iterator[Kept]:
    """The files of decisions about a run, by number, damaged ones too. Raises RetryLater if the disk refuses."""
    folder = os.path.join(root, REVIEWS, run)
    found = [(number, name) for name in _listed(folder) if (number := number_of(name)) is not None]
    for number, name in sorted(found):
        path, where = os.path.join(folder, name), f"{REVIEWS}/{run}/{name}"
        try:
            with open(path, "rb") as stream:
                data = stream.read()
        except OSError as error:
            yield Kept(where, number, run, "", None, f"can't be read ({error.strerror})")
            continue
        digest = hashlib.sha256(data).hexdigest()
        try:
            decision = decode_decision(data)
        except (ValueError, TypeError) as error:
            yield Kept(where, number, run, digest, None, f"is damaged: {error}")
            continue
        stray = (decision.number, decision.run) != (number, run) or encode_decision(decision) != data
        yield Kept(where, number, run, digest, decision, "is not what was written under this name" if stray else "")


def read_all(root: str) -> list[Kept]:
    """Every decision's file of the archive, by number."""
    return _read_in(root, reviewed_runs(root))


def read_news(root: str, looks: Mapping[str, str], now: float) -> News:
    """The folders that do not look as a state knows them. To look at one costs a twentieth of reading it.

    A file that somebody wrote into, and that kept its name, is not seen like this: `verify` reads all of them.

    Args:
        root: the archive.
        looks: how each folder looked, by the run's name.
        now: seconds since the epoch.

    Raises:
        RetryLater: the disk refused.
    """
    there = {run: _look_of(os.path.join(root, REVIEWS, run), now) for run in reviewed_runs(root)}
    changed = {run: look for run, look in there.items() if not look or look != looks.get(run)}
    gone = dict.fromkeys(looks.keys() - there.keys(), "")
    return News({**changed, **gone}, _read_in(root, changed))


def _read_in(root: str, runs: Iterable[str]) -> list[Kept]:
    return sorted((kept for run in runs for kept in read_kept(root, run)), key=lambda each: (each.number, each.run))


_YOUNG_SECONDS: Final = 3.0
"""A folder that changed so lately may change once more and look the same: clocks of file systems tick slowly."""


def _look_of(folder: str, now: float) -> str:
    """How a folder looks: another name in it is another look. "" if that can't be relied on."""
    try:
        status = os.stat(folder)
    except OSError:
        return ""
    if now - status.st_mtime < _YOUNG_SECONDS:
        return ""
    return f"{status.st_ino}:{status.st_mtime_ns}:{status.st_ctime_ns}"


class Fault(NamedTuple):
    """Something in the chain of decisions that is not as it was written.

    Attributes:
        where: the file or the folder, below the archive.
        what: what is wrong.
        is_derived: whether the decisions themselves are whole, so that `reindex` mends it.
    """

    where: str
    what: str
    is_derived: bool = False


def faults_in(kept: Sequence[Kept], head: Head | None) -> Iterator[Fault]:
    """What was removed from the chain, altered in it or put into it.

    Args:
        kept: all files, by number.
        head: what says where the chain ends; None if that is damaged.
    """
    before = Head()
    for each in kept:
        if each.problem:
            yield Fault(each.where, each.problem)
        if each.number > before.number + 1:
            yield Fault(f"{REVIEWS}/", f"{_numbered(before.number + 1, each.number - 1)} removed")
        elif each.number == before.number:
            yield Fault(each.where, f"there are two decisions {each.number}")
        elif each.decision is not None and each.decision.previous != before.digest:
            what = f"does not follow decision {before.number} as it is: one of the two was altered"
            yield Fault(each.where, what if before.number else "names one before it, and is the first")
        before = Head(each.number, each.digest)
    if head is None:
        yield Fault(f"{REVIEWS}/{HEAD_FILE}", "is damaged", is_derived=True)
    elif head.number > before.number:
        yield Fault(f"{REVIEWS}/", f"{_numbered(before.number + 1, head.number)} removed")
    elif head.number < before.number:
        yield Fault(f"{REVIEWS}/{HEAD_FILE}", "is behind the decisions", is_derived=True)
    elif head.digest != before.digest:
        yield Fault(kept[-1].where, f"is not what {HEAD_FILE} says: it was altered")


def _numbered(first: int, last: int) -> str:
    return f"decision {first} was" if first == last else f"decisions {first} to {last} were"


def read_decisions(root: str, run: str) -> Sequence[Decision]:
    """What was decided about a run, oldest first.

    Raises:
        UnknownRun: a file is damaged: what it decided can't be told, so nobody may act on the others.
        RetryLater: the disk refused.
    """
    decisions = []
    for kept in read_kept(root, run):
        if kept.decision is None or kept.problem:
            hint = "`modelwarden verify` says what is wrong; `approved --by-gate` asks for the gate's word alone"
            raise UnknownRun(kept.problem, where=os.path.join(root, kept.where), hint=hint)
        decisions.append(kept.decision)
    return decisions


def _listed(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise refusal("list", folder, error) from error
