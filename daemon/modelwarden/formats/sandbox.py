"""The worker that reads a stranger's file and runs the administrator's program over it.

The rule: it has no environment, no open file but its pipes, little memory and little time, and it does one file.
Whatever becomes of it costs that file and nothing else.
"""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import cache
from importlib.util import find_spec
from typing import Any, Final, NamedTuple

from modelwarden.errors import RejectSummary, RetryLater
from modelwarden.formats.description import Format, format_of
from modelwarden.formats.normalising import NotFinal, Torn, Wish, summary_of
from modelwarden.gate.gates import Better
from modelwarden.gate.json_object import shorten

MEMORY_BYTES: Final = 1024 * 1024 * 1024
"""Most memory that one file may take; the service has two of these."""

CPU_SECONDS: Final = 60
"""Most time of the processor that one file may take."""

WALL_SECONDS: Final = 300.0
"""Most time in all: a host that trains has little of its processors left, and that is not the file's fault."""

_TURN_SECONDS: Final = 0.5
"""How often who waits for a worker is asked whether it goes on waiting."""

EXTRA: Final = ("jq", "numpy", "yaml")
"""What the extra `formats` brings."""

_HINT: Final = "look at the file, and at the format's program"

_PRELUDE: Final = (
    'def folder($n): ($file | split("/")) as $p | ($p[-1 - $n] // "") | if . == "" then "run" else . end; '
    'def stem: $file | split("/") | .[-1] | sub("\\\\.[^.]*$"; ""); '
    "def columns($names): . as $rows | reduce $names[] as $n ({}; .[$n] = [$rows[] | .[$n]]); "
)
"""What every program may use: `folder(1)` is the name of the file's folder, `stem` the file's without its ending,
`columns(names)` the rows' columns as lists."""

_MARKED: Final = (
    '| walk(if type == "number" then (if isnan then "NaN" elif isinfinite then '
    '(if . > 0 then "Infinity" else "-Infinity" end) else . end) else . end)'
)
"""Said of NaN and infinities on the way out: jq would write null and the largest float."""

_FOUND: Final = "from modelwarden.formats.sandbox import main; main()"


class Order(NamedTuple):
    """What a worker is to do.

    Attributes:
        format: by which.
        path: the file's, for the names in it; nothing is opened by it.
        wish: what the settings ask for.
        kept: the checkpoints that are there; None if the format looks for none.
    """

    format: Format
    path: str
    wish: Wish = Wish()
    kept: frozenset[str] | None = None


def missing_extra() -> Sequence[str]:
    """The packages of the extra `formats` that are not installed."""
    return [name for name in EXTRA if find_spec(name) is None]


def translate(order: Order, data: bytes, waits: Callable[[], bool] = lambda: True) -> bytes | NotFinal:
    """The summary that a file's bytes come to.

    Args:
        order: what is to be done.
        data: the file's bytes.
        waits: asked now and then; False: nobody waits for the answer any longer.

    Raises:
        RetryLater: nobody waited.
        Torn: the bytes end too early; more may come.
        RejectSummary: they are nothing that the format reads, or reading them took too much.
    """
    head, _, body = _work(_encode(order), data, waits).partition(b"\n")
    try:
        answer = json.loads(head)
    except ValueError:
        raise RejectSummary("the format's worker gave no answer", hint=_HINT) from None
    if answer.get("summary"):
        return body
    if answer.get("not_final"):
        return NotFinal()
    kind = Torn if answer.get("torn") else RejectSummary
    raise kind(answer["what"], where=answer["where"], hint=answer["hint"])


@cache
def complaint_about(program: str) -> str:
    """Why a program does not compile; "" if it does, or if jq is not there to ask."""
    if find_spec("jq") is None:
        return ""
    probe = Format("probe", "", ("*",), "json", f"empty | (\n{program}\n)")  # compiled, and never run
    try:
        translate(Order(probe, "/probe"), b"[]")
    except RejectSummary as error:
        return error.what if error.what.startswith(_NOT_COMPILED) else ""
    return ""


_NOT_COMPILED: Final = "the program does not compile"


def _work(head: bytes, data: bytes, waits: Callable[[], bool]) -> bytes:
    """One worker's answer to one file."""
    package = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    start = f"import sys; sys.path.insert(0, {package!r}); {_FOUND}"
    with (
        _held(head + b"\n" + data) as question,
        subprocess.Popen(  # noqa: S603 - ourselves
            [sys.executable, "-I", "-B", "-X", "utf8", "-c", start],
            stdin=question,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # `debug` and `stderr` of a program
            env={},
            cwd="/",
        ) as process,
    ):
        try:
            answer = _answer(process, waits)
        except BaseException:
            process.kill()
            process.communicate()
            raise
    if process.returncode != 0:
        raise RejectSummary(_why_dead(process.returncode), hint=_HINT)
    return answer


@contextmanager
def _held(question: bytes) -> Iterator[int]:
    """A descriptor to read the bytes from, in memory: nobody need stand by to feed a pipe."""
    descriptor = os.memfd_create("order")
    try:
        with open(descriptor, "wb", closefd=False) as stream:
            stream.write(question)
        os.lseek(descriptor, 0, os.SEEK_SET)
        yield descriptor
    finally:
        os.close(descriptor)


def _answer(process: subprocess.Popen[bytes], waits: Callable[[], bool]) -> bytes:
    deadline = time.monotonic() + WALL_SECONDS
    while True:
        try:
            return process.communicate(timeout=min(_TURN_SECONDS, WALL_SECONDS))[0]
        except subprocess.TimeoutExpired:
            if not waits():
                raise RetryLater("the daemon stops while a trainer's file is read") from None
            if time.monotonic() > deadline:
                raise RejectSummary(f"reading it took longer than {WALL_SECONDS:g} s", hint=_HINT) from None


def _why_dead(code: int) -> str:
    if code == -signal.SIGXCPU:
        return f"reading it took more than {CPU_SECONDS} s of processor time"
    if code in {-signal.SIGABRT, _OUT_OF_MEMORY}:
        return f"reading it took more than {MEMORY_BYTES // 2**20} MiB of memory"
    if code < 0:
        return f"the worker that read it was ended by {signal.Signals(-code).name}"
    return f"the worker that read it ended with {code}"


_OUT_OF_MEMORY: Final = 70


def _encode(order: Order) -> bytes:
    format_ = asdict(order.format)
    format_["metric"] = [
        {name: value for name, value in rule._asdict().items() if value is not None} for rule in order.format.metrics
    ]
    del format_["metrics"]
    kept = None if order.kept is None else sorted(order.kept)
    written = {"format": format_, "path": order.path, "wish": order.wish._asdict(), "kept": kept}
    return json.dumps(written).encode()


def _decode(head: bytes) -> Order:
    written = json.loads(head)
    wish = Wish(**{**written["wish"], "better": Better(written["wish"]["better"])})
    kept = None if written["kept"] is None else frozenset(written["kept"])
    return Order(format_of(written["format"]), written["path"], wish, kept)


def answer_to(order: Order, data: bytes) -> bytes:
    """What a worker answers: a line of JSON, and after it the summary."""
    from modelwarden.formats.readers import read_document  # noqa: PLC0415 - the worker's alone

    try:
        document = read_document(order.format.reader, data, order.format.members)
        made = summary_of(_run(order, document), order.format, order.wish, order.kept)
    except RejectSummary as error:
        said = {"what": error.what, "where": error.where, "hint": error.hint, "torn": isinstance(error, Torn)}
        return json.dumps(said).encode() + b"\n"
    if isinstance(made, NotFinal):
        return b'{"not_final": true}\n'
    return b'{"summary": true}\n' + made


def _run(order: Order, document: Any) -> list[Any]:
    import jq  # noqa: PLC0415 - of the extra, and the worker's alone

    text = f"{_PRELUDE}(\n{order.format.program}\n) {_MARKED}"
    try:
        program = jq.compile(text, args={"file": order.path})
    except ValueError as error:
        raise RejectSummary(f"{_NOT_COMPILED}: {_first_line(error)}", hint=_HINT) from None
    try:
        made: list[Any] = program.input_value(document).all()
    except ValueError as error:
        raise RejectSummary(f"the format's program says: {_first_line(error)}", hint=_HINT) from None
    return made


def _first_line(error: ValueError) -> str:
    """The beginning of what jq says; it may quote the file."""
    line = str(error).strip().partition("\n")[0]
    return shorten("".join(each if each.isprintable() else "?" for each in line)[:_LONGEST_LINE])


_LONGEST_LINE: Final = 200


def _confine() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


def main() -> None:
    """A worker: one order, one file, one answer."""
    _confine()
    try:
        with open(0, "rb", closefd=False) as orders:
            order, data = _decode(orders.readline()), orders.read()
        answer = answer_to(order, data)
        with open(1, "wb", closefd=False) as answers:
            answers.write(answer)
    except MemoryError:
        os._exit(_OUT_OF_MEMORY)
    except BrokenPipeError:  # who asked is gone
        os._exit(0)
