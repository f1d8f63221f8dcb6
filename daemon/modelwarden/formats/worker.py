"""The worker that reads strangers' files and runs the administrator's programs over them: what happens on its side.

The rule: each file is read by a process of its own, forked for it, with no environment, no open file but its question
and its answer, little memory and little time. Whatever becomes of it costs that file and nothing else; what was loaded
before the fork is code alone, and no file.
"""

import gc
import json
import os
import resource
import select
import signal
import socket
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from functools import cache, lru_cache
from typing import Any, BinaryIO, Final, NamedTuple

from modelwarden.errors import RejectSummary
from modelwarden.formats.description import Format, format_of
from modelwarden.formats.normalising import NotFinal, Part, Torn, Wish, summary_of
from modelwarden.formats.readers import load, members_of, read_document
from modelwarden.gate.gates import Better
from modelwarden.gate.json_object import shorten

MEMORY_BYTES: Final = 1024 * 1024 * 1024
"""Most memory that one file may take. The units have so much and what the daemon itself needs: a test adds them up."""

CPU_SECONDS: Final = 60
"""Most time of the processor that one file may take."""

OUT_OF_MEMORY: Final = 70
"""What a process ends with that was refused memory."""

STATUS_BYTES: Final = 4
"""So many, behind an answer, say how the process ended that gave it."""

NOT_COMPILED: Final = "the program does not compile"

HINT: Final = "look at the file, and at the format's program"

_OF_THE_DAEMON: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that may reach all processes of a service or a terminal: the daemon decides when its worker ends."""

_LONGEST_LINE: Final = 200

MOST_PROGRAMS: Final = 64
"""Most that are kept compiled."""

_PRELUDE: Final = (
    'def folder($n): ($file | split("/")) as $p | ($p[-1 - $n] // "") | if . == "" then "run" else . end; '
    'def stem: $file | split("/") | .[-1] | sub("\\\\.[^.]*$"; ""); '
    "def columns($names): . as $rows | reduce $names[] as $n ({}; .[$n] = [$rows[] | .[$n]]); "
    "def lasting(f): [foreach (reverse | .[]) as $row ({least: infinite}; ($row | f) as $at | .row = null "
    "| if $at == null then .row = $row elif $at < .least then {least: $at, $row} else . end; .row | values)] "
    "| reverse; "
)
"""What every program may use: `folder(1)` is the name of the file's folder, `stem` the file's without its ending,
`columns(names)` the rows' columns as lists. `lasting(.epoch)` takes away the rows of a training that was begun anew:
those that a row with the same or an earlier epoch comes after, and those of which it is text, such as a header in the
middle."""

_MARKED: Final = (
    '| walk(if type == "number" then (if isnan then "NaN" elif isinfinite then '
    '(if . > 0 then "Infinity" else "-Infinity" end) else . end) else . end)'
)
"""Said of NaN and infinities on the way out: jq would write null and the largest float."""


class Order(NamedTuple):
    """What a worker is to do.

    Attributes:
        format: by which.
        path: the file's, or the folder's of a group, for the names in it; nothing is opened by it.
        wish: what the settings ask for.
        kept: the checkpoints that are there, by the file of a group, or under "" of a file alone; a file that is left
            out, or a format that looks for none, has all that its trainer names.
        group: whether the bytes are those of a group of files, in one ZIP file.
    """

    format: Format
    path: str
    wish: Wish = Wish()
    kept: dict[str, frozenset[str]] | None = None
    group: bool = False


def encode(order: Order) -> bytes:
    """The order in one line."""
    format_ = asdict(order.format)
    format_["metric"] = [
        {name: value for name, value in rule._asdict().items() if value is not None} for rule in order.format.metrics
    ]
    del format_["metrics"]
    kept = None if order.kept is None else {name: sorted(each) for name, each in order.kept.items()}
    written = {**order._asdict(), "format": format_, "wish": order.wish._asdict(), "kept": kept}
    return json.dumps(written).encode()


def decode(head: bytes) -> Order:
    """The order that was written so."""
    written = json.loads(head)
    wish = Wish(**{**written["wish"], "better": Better(written["wish"]["better"])})
    kept = written["kept"] and {name: frozenset(each) for name, each in written["kept"].items()}
    return Order(format_of(written["format"]), written["path"], wish, kept, written["group"])


def answer_to(order: Order, data: bytes) -> bytes:
    """What a worker answers: a line of JSON, and after it the summary."""
    try:
        made = summary_of([*_parts(order, data)], order.format, order.wish)
    except RejectSummary as error:
        said = {"what": error.what, "where": error.where, "hint": error.hint, "torn": isinstance(error, Torn)}
        return json.dumps(said).encode() + b"\n"
    if isinstance(made, NotFinal):
        return b'{"not_final": true}\n'
    return b'{"summary": true}\n' + made


def _parts(order: Order, data: bytes) -> Iterator[Part]:
    """What the program made of the file, or of each file of the group."""
    kept = order.kept or {}
    if not order.group:
        yield Part("", _run(order, order.path, data), kept.get(""))
        return
    for name, inner in members_of(data):
        try:
            yield Part(name, _run(order, f"{order.path}/{name}", inner), kept.get(name))
        except RejectSummary as error:
            where = ": ".join(part for part in (name, error.where) if part)
            raise type(error)(error.what, where=where, hint=error.hint) from None


def _run(order: Order, path: str, data: bytes) -> list[Any]:
    program = compiled(order.format.program)
    if isinstance(program, str):
        raise RejectSummary(f"{NOT_COMPILED}: {program}", hint=HINT)
    # As text, that the document itself is gone before jq makes its own of it.
    text = _as_text(path, read_document(order.format.reader, data, order.format.members))
    try:
        made: list[Any] = program.input_text(text).all()
    except ValueError as error:
        raise RejectSummary(f"the format's program says: {_first_line(error)}", hint=HINT) from None
    return made


def _as_text(path: str, document: Any) -> str:
    return json.dumps({"file": path, "document": document})


@lru_cache(MOST_PROGRAMS)
def compiled(program: str) -> Any:
    """The program, or as text why it does not compile. Which file it is for is in its input, so that one does for all.

    Raises:
        ImportError: jq is not installed.
    """
    import jq  # noqa: PLC0415 - of the extra

    try:
        return jq.compile(f".file as $file | .document | {_PRELUDE}(\n{program}\n) {_MARKED}")
    except ValueError as error:
        return _first_line(error)


def _first_line(error: ValueError) -> str:
    """The beginning of what jq says; it may quote the file."""
    line = str(error).strip().partition("\n")[0]
    return shorten("".join(each if each.isprintable() else "?" for each in line)[:_LONGEST_LINE])


def _confine() -> None:
    """Also who compiles has no more: a program may make much of little before it sees a file."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


def answer_one(order: Order, stream: BinaryIO, answers: int) -> int:
    """One file, one answer; with what the process is to end."""
    try:
        answer = answer_to(order, stream.read())
        with open(answers, "wb", closefd=False) as written:
            written.write(answer)
    except MemoryError:
        return OUT_OF_MEMORY
    except BrokenPipeError:  # who asked is gone
        return 0
    return 0


@cache
def _load(reader: str) -> None:
    """Load what a reader needs, once, before the fork."""
    with suppress(ImportError):  # the process that needs it says so
        load(reader)
    gc.collect()
    gc.freeze()


def main() -> None:
    """Fork a process for each file that is asked about, until who asks is gone."""
    for number in _OF_THE_DAEMON:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _OF_THE_DAEMON)
    _confine()
    os.environ.clear()
    gc.disable()  # a process of one file has none to collect
    with socket.socket(fileno=0) as channel:
        while True:
            asked, descriptors, _, _ = socket.recv_fds(channel, 1, 2)
            if not asked:
                return
            _answer(channel, *descriptors)


def _answer(channel: socket.socket, question: int, answers: int) -> None:
    """Let a new process read the file; its answer is followed by how it ended."""
    with open(question, "rb") as stream:
        order = decode(stream.readline())
        _load(order.format.reader)
        with suppress(ImportError):  # the process that needs it says so
            compiled(order.format.program)
        child = os.fork()
        if not child:
            status = 1
            try:
                channel.close()
                resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS + 1))
                status = answer_one(order, stream, answers)
            finally:
                os._exit(status)
    ended = _wait_for(child, channel)
    with suppress(BrokenPipeError):
        os.write(answers, ended.to_bytes(STATUS_BYTES, "big"))
    os.close(answers)


def _wait_for(child: int, channel: socket.socket) -> int:
    """How the process ended; if who asked is gone meanwhile, however that came, nobody waits for it: it is killed."""
    with suppress(OSError):  # a kernel before 5.3, or one that may not be asked: then it ends by its own limits
        pidfd = os.pidfd_open(child)
        try:
            poll = select.poll()
            poll.register(pidfd, select.POLLIN)
            poll.register(channel, 0)  # for its hang-up, which is told unasked
            if pidfd not in dict(poll.poll()):
                os.kill(child, signal.SIGKILL)
        finally:
            os.close(pidfd)
    return os.waitpid(child, 0)[1]
