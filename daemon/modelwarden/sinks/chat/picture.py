"""The picture that goes with a message: whether there is one, and how long a message may wait for it.

The rule: a picture never costs a message. Whatever goes wrong with it (no matplotlib, the run gone, a disk that hangs,
no time left), the message goes without; one is drawn at a time, for each takes memory.
"""

import time
from collections.abc import Callable
from importlib.util import find_spec
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from typing import Final

from modelwarden.gate.assessment import Classification
from modelwarden.log import log
from modelwarden.sinks.chat.digest import RunNews
from modelwarden.sinks.chat.drawing import NotDrawn

Draw = Callable[[RunNews], bytes]
"""The PNG of a run, b"" if there is nothing to draw. May raise anything, and may hang."""

SHARE: Final = 1 / 3
"""Of a send's time that may go by until its picture is there."""


class Pictures:
    """Sees to the plots of runs.

    Args:
        draw: draws one.
    """

    def __init__(self, draw: Draw) -> None:
        self._draw_it = draw
        self._turn = Lock()
        self._is_late = False  # whether who draws now is waited for no more
        self._was_missed = False

    def of(self, news: RunNews, seconds: float) -> bytes:
        """The PNG of a run's approved models, within so many seconds; b"" if there is none. Never raises."""
        if not any(model.classification is Classification.APPROVED for model in news.assessments):
            return b""
        if find_spec("matplotlib") is None:
            if not self._was_missed:
                self._was_missed = True
                log.info("no_pictures", reason="matplotlib is not installed", hint="pip install 'modelwarden[plots]'")
            return b""
        end = time.monotonic() + seconds
        if not self._turn.acquire(timeout=0 if self._is_late else seconds):
            _say_left_out(news, "another is being drawn")
            return b""
        # A thread of its own: a file system that hangs, or a first look at all fonts, must not use up a send's time.
        drawn: SimpleQueue[bytes] = SimpleQueue()
        Thread(target=self._draw, args=(news, drawn), name="draw", daemon=True).start()
        try:
            return drawn.get(timeout=max(0.0, end - time.monotonic()))
        except Empty:
            self._is_late = True
            _say_left_out(news, "it took too long")
            return b""

    def _draw(self, news: RunNews, drawn: "SimpleQueue[bytes]") -> None:
        """On a thread of its own, which holds the turn."""
        picture = b""
        try:
            picture = self._draw_it(news)
        except Exception as error:  # noqa: BLE001 - whatever went wrong: no picture
            _say_left_out(news, str(error) if isinstance(error, NotDrawn) else f"{type(error).__name__}: {error}")
        finally:
            self._is_late = False
            self._turn.release()
            drawn.put(picture)


def _say_left_out(news: RunNews, reason: str) -> None:
    log.info("picture_left_out", run=news.timestamp, reason=reason)
