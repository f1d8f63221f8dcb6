"""Drawing in a process of its own, which ends: matplotlib takes 70 MiB that a courier would keep for years.

The rule: whatever becomes of that process (it crashes, hangs, is killed for memory), its caller is told in time that
there is no picture. It is of the caller's own version or draws nothing, and it is given no secret.
"""

import json
import math
import os
import pickle
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from modelwarden.gate.policy import Policy
from modelwarden.sinks.chat.digest import RunNews
from modelwarden.sinks.chat.plot import fitness_plot

Histories = Callable[[str, Policy], Mapping[str, Sequence[float]]]
"""From a run's name and its policy to the course that it judges, by symbol. May raise anything, and may hang."""

LONGEST_SECONDS: Final = 120.0
"""How long a process may draw; a first look at all fonts of a slow host takes tens of seconds."""

_LONGEST_REASON: Final = 300
"""Characters kept of why there is no picture."""

_SECRET: Final = re.compile(r"MODELWARDEN_|CREDENTIALS_DIRECTORY$|NOTIFY_SOCKET$", re.IGNORECASE)
"""Variables that are none of its business; a setting's name may be written in small letters too."""

_ALONE: Final = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "PYTHONUTF8": "1"}


class NotDrawn(Exception):
    """There is no picture; why, in words for the log."""


def _version() -> tuple[int, int, int]:
    """What tells one installation of this file from the next."""
    status = os.stat(__file__)
    return status.st_ino, status.st_size, status.st_mtime_ns


_VERSION: Final = _version()


def draw_apart(histories: Histories, news: RunNews, seconds: float = LONGEST_SECONDS) -> bytes:
    """The PNG of a run, drawn by a process that ends; b"" if there is nothing to draw.

    Args:
        histories: what the catalog does not hold; read by that process, so it must be one that can be pickled.
        news: the run, without the histories.
        seconds: how long that process may live.

    Raises:
        NotDrawn: it ended badly, took too long, or is of another version. One that hangs in a file system can't even be
            killed: this waits until it can.
        OSError: it could not be started.
    """
    asked = _question(seconds, histories, news)
    kept = {name: value for name, value in os.environ.items() if "://" not in value and not _SECRET.match(name)}
    process = subprocess.Popen(
        # -P: a folder called modelwarden where the courier was started is not the package.
        [sys.executable, "-P", "-c", "from modelwarden.sinks.chat.drawing import main; main()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=kept | _ALONE,
    )
    try:
        picture, said = process.communicate(asked, timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise NotDrawn(f"not drawn within {seconds:g} s") from None
    if process.returncode != 0:
        last = said.decode(errors="replace").strip().rpartition("\n")[2]
        raise NotDrawn(last[:_LONGEST_REASON] or f"the process ended with {process.returncode}")
    return picture


def _question(seconds: float, histories: Histories, news: RunNews) -> bytes:
    """What is asked: a line that every version reads, and what only the same version may unpickle."""
    head = json.dumps({"version": _VERSION, "seconds": seconds}).encode()
    drawn = news._replace(counts=dict(news.counts), changes=(), changed={})  # a read-only mapping can't be pickled
    return head + b"\n" + pickle.dumps((histories, drawn), pickle.HIGHEST_PROTOCOL)


def main() -> None:
    """The process: one question from standard input, one picture to standard output, or one line why there is none."""
    with open(sys.stdin.fileno(), "rb", closefd=False) as stream:
        line, _, pickled = stream.read().partition(b"\n")
    head = json.loads(line)
    # The courier may be gone by then, and nothing else ends what hangs in a library.
    signal.alarm(math.ceil(head["seconds"]) + 1)
    if tuple(head["version"]) != _VERSION:
        sys.exit("another version is installed by now; the courier's restart takes it over")
    try:
        picture = _draw(*pickle.loads(pickled))  # noqa: S301 - from the process that started this one
    except Exception as error:  # noqa: BLE001 - a run that is gone or strange, a library's fault: no picture
        sys.exit(f"{type(error).__name__}: {error}")
    # Opened anew: if PYTHONUNBUFFERED is set, what sys.stdout can't write at once is dropped without a word.
    with open(sys.stdout.fileno(), "wb", closefd=False) as stream:
        stream.write(picture)


def _draw(histories: Histories, news: RunNews) -> bytes:
    courses = histories(news.timestamp, news.policy)
    models = [model._replace(history=courses.get(model.symbol, ())) for model in news.assessments]
    return fitness_plot(news._replace(assessments=models)) or b""
