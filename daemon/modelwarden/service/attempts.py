"""Which files a process died over: what is being worked on is noted before, and struck out after.

The rule: this only ever decides that a file is worked on alone, or given up after DEATHS_ALLOWED deaths alone with it.
It is written without a sync, for it must survive the process and not the machine; where it can't be written, work
goes on without it.
"""

import json
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

DEATHS_ALLOWED: Final = 3
"""A file with which a process died alone so often is given up: a crash loop would hold up all others."""

FILE: Final = "attempts.json"

Figures = tuple[int, ...]


@dataclass
class _Suspect:
    figures: Figures
    deaths: int  # of a process that worked on nothing else


class Attempts:
    """The files that the last process was working on when it died, and those that this one is working on.

    Args:
        state_dir: where the note is kept.
    """

    def __init__(self, state_dir: str) -> None:
        self._path = os.path.join(state_dir, FILE)
        self._suspects: dict[str, _Suspect] = {}
        self._written = False
        with suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
            with open(self._path, encoding="utf-8") as stream:
                note = json.load(stream)
            for path, entry in note.items():
                self._suspects[path] = _Suspect(tuple(entry["figures"]), int(entry["deaths"]))
            self._written = True

    def deaths(self, path: str, figures: Figures) -> int | None:
        """How often a process died alone with this file; None where it is under no suspicion."""
        suspect = self._suspects.get(path)
        return suspect.deaths if suspect is not None and suspect.figures == figures else None

    def begin(self, files: Sequence[tuple[str, Figures]]) -> None:
        """Note what is worked on now; should this process die, the next one finds it."""
        alone = len(files) == 1
        note = dict(self._suspects)
        for path, figures in files:
            note[path] = _Suspect(figures, (self.deaths(path, figures) or 0) + alone)
        self._write(note)

    def end(self, files: Sequence[tuple[str, Figures]]) -> None:
        """It was survived: these files are under suspicion no more."""
        for path, _ in files:
            self._suspects.pop(path, None)
        if self._suspects:
            self._write(self._suspects)
        elif self._written:
            with suppress(OSError):
                os.truncate(self._path, 0)

    def _write(self, note: dict[str, _Suspect]) -> None:
        text = json.dumps({path: {"figures": each.figures, "deaths": each.deaths} for path, each in note.items()})
        with suppress(OSError), open(self._path, "w", encoding="utf-8") as stream:
            stream.write(text)
            self._written = True
