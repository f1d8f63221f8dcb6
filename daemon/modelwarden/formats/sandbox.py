"""The daemon's side of the worker that reads strangers' files: it is started, asked, and ended.

The rule: nothing that a file does reaches whoever asks but an answer, or a reason. The worker is started when it is
needed, with nothing of the daemon's, and started anew if it is gone.
"""

import atexit
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from importlib.util import find_spec
from threading import Lock
from typing import Final

from modelwarden.errors import RejectSummary, RetryLater
from modelwarden.formats.description import Format
from modelwarden.formats.normalising import NotFinal, Torn
from modelwarden.formats.worker import (
    CPU_SECONDS,
    HINT,
    MEMORY_BYTES,
    NOT_COMPILED,
    OUT_OF_MEMORY,
    STATUS_BYTES,
    Order,
    encode,
)

WALL_SECONDS: Final = 300.0
"""Most time in all: a host that trains has little of its processors left, and that is not the file's fault."""

EXTRA: Final = ("jq", "numpy", "yaml")
"""What the extra `formats` brings."""

_TURN_SECONDS: Final = 0.5
"""How often who waits for a worker is asked whether it goes on waiting."""

_MIB: Final = 1 << 20

_NO_MEMORY: Final = frozenset({-signal.SIGABRT, OUT_OF_MEMORY})
_TOO_MUCH: Final = _NO_MEMORY | {-signal.SIGXCPU}

_LESS: Final = "log fewer rows or columns, or let the format's program keep fewer"

_FOUND: Final = "from modelwarden.formats.worker import main; main()"

_OF_THE_DAEMON: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class _Lost(Exception):
    """The worker is gone, and with it the answer."""


class Sandbox:
    """A worker, started when it is first asked. One file at a time; whoever else asks waits."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None
        self._lock = Lock()

    def translate(self, order: Order, data: bytes, waits: Callable[[], bool] = lambda: True) -> bytes | NotFinal:
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
        with self._lock:
            head, _, body = self._work(order, data, waits).partition(b"\n")
        try:
            answer = json.loads(head)
        except ValueError:
            raise RejectSummary("the format's worker gave no answer", hint=HINT) from None
        if answer.get("summary"):
            return body
        if answer.get("not_final"):
            return NotFinal()
        kind = Torn if answer.get("torn") else RejectSummary
        raise kind(answer["what"], where=answer["where"], hint=answer["hint"])

    def close(self) -> None:
        """End the worker; it is started anew if it is asked again."""
        with self._lock:
            self._end()

    def _work(self, order: Order, data: bytes, waits: Callable[[], bool]) -> bytes:
        """The answer to one file. A worker that is gone may have been gone before: another is asked once more."""
        with _held(encode(order) + b"\n", data) as question:
            try:
                return self._ask(question, waits)
            except _Lost:
                os.lseek(question, 0, os.SEEK_SET)
            try:
                return self._ask(question, waits)
            except _Lost as lost:
                raise RejectSummary(str(lost), hint=HINT) from None

    def _ask(self, question: int, waits: Callable[[], bool]) -> bytes:
        answers, theirs = os.pipe2(os.O_CLOEXEC)
        try:
            try:
                socket.send_fds(self._started(), [b"?"], [question, theirs])
            except OSError:
                raise _Lost(self._end()) from None
            finally:
                os.close(theirs)
            answer = self._all_of(answers, waits)
        except BaseException:
            self._end()
            raise
        finally:
            os.close(answers)
        if len(answer) < STATUS_BYTES or not self._is_alive():
            raise _Lost(self._end())
        ended = int.from_bytes(answer[-STATUS_BYTES:], "big")
        if (code := os.waitstatus_to_exitcode(ended)) != 0:
            raise RejectSummary(why_dead(code), hint=_LESS if code in _TOO_MUCH else HINT)
        return answer[:-STATUS_BYTES]

    def _all_of(self, answers: int, waits: Callable[[], bool]) -> bytes:
        deadline = time.monotonic() + WALL_SECONDS
        poll = select.poll()
        poll.register(answers, select.POLLIN)
        parts: list[bytes] = []
        while True:
            if poll.poll(min(_TURN_SECONDS, WALL_SECONDS) * 1000):
                part = os.read(answers, _MIB)
                if not part:
                    return b"".join(parts)
                parts.append(part)
            elif not waits():
                raise RetryLater("the daemon stops while a trainer's file is read")
            if time.monotonic() > deadline:
                raise RejectSummary(f"reading it took longer than {WALL_SECONDS:g} s", hint=HINT)

    def _started(self) -> socket.socket:
        """The channel to a worker that lives."""
        if self._channel is not None and self._is_alive():
            return self._channel
        self._end()
        package = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        start = f"import sys; sys.path.insert(0, {package!r}); {_FOUND}"
        ours, theirs = socket.socketpair()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _OF_THE_DAEMON)  # until the worker ignores them
        try:
            self._process = subprocess.Popen(  # noqa: S603 - ourselves
                [sys.executable, "-I", "-B", "-X", "utf8", "-c", start],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,  # `debug` and `stderr` of a program
                env={},
                cwd="/",
                process_group=0,  # that what it forked ends with it
            )
        except BaseException:
            ours.close()
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            theirs.close()
        self._channel = ours
        return ours

    def _is_alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def _end(self) -> str:
        """End the worker, if there is one; how it ended if it had ended before."""
        process, channel = self._process, self._channel
        self._process = self._channel = None
        if channel is not None:
            channel.close()
        if process is None:
            return ""
        had_ended = process.poll()
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)  # with the process of the file that it was asked about
        process.wait()
        return why_dead(process.returncode if had_ended is None else had_ended)


_shared: Final = Sandbox()
"""The worker of whoever asks in this process."""

atexit.register(_shared.close)


def translate(order: Order, data: bytes, waits: Callable[[], bool] = lambda: True) -> bytes | NotFinal:
    """The same by the worker of this process."""
    return _shared.translate(order, data, waits)


def rest() -> None:
    """End the worker of this process until it is needed again."""
    _shared.close()


def missing_extra() -> Sequence[str]:
    """The packages of the extra `formats` that are not installed."""
    return [name for name in EXTRA if find_spec(name) is None]


@cache
def complaint_about(program: str) -> str:
    """Why a program does not compile; "" if it does, or if jq is not there to ask."""
    if find_spec("jq") is None:
        return ""
    probe = Format("probe", "", ("*",), "json", f"empty | (\n{program}\n)")  # compiled, and never run
    try:
        translate(Order(probe, "/probe"), b"[]")
    except RejectSummary as error:
        return error.what if error.what.startswith(NOT_COMPILED) else ""
    return ""


@contextmanager
def _held(head: bytes, data: bytes) -> Iterator[int]:
    """A descriptor to read the bytes from, in memory: nobody need stand by to feed a pipe."""
    descriptor = os.memfd_create("order")
    try:
        with open(descriptor, "wb", closefd=False) as stream:
            stream.write(head)
            stream.write(data)
        os.lseek(descriptor, 0, os.SEEK_SET)
        yield descriptor
    finally:
        os.close(descriptor)


def why_dead(code: int) -> str:
    """Why a process that ended so gave no answer."""
    if code == -signal.SIGXCPU:
        return f"reading it took more than {CPU_SECONDS} s of processor time"
    if code in _NO_MEMORY:
        return f"reading it took more than {MEMORY_BYTES // _MIB} MiB of memory"
    if code < 0:
        return f"the worker that read it was ended by {signal.Signals(-code).name}"
    return f"the worker that read it ended with {code}"
