"""Files that change at a moment that a test chooses."""

from collections.abc import Callable
from pathlib import Path

import pytest

from modelwarden.intake.reading import Reading, read_whole


def once_read(monkeypatch: pytest.MonkeyPatch, where: str, path: Path, act: Callable[[], object]) -> Callable[[], bool]:
    """Do something once, right after a module of the pipeline read a file; whether it was done."""
    left = [act]

    def read(which: str, most: int) -> Reading:
        reading = read_whole(which, most)
        if which == str(path) and left:
            left.pop()()
        return reading

    monkeypatch.setattr(f"modelwarden.pipeline.{where}.read_whole", read)
    return lambda: not left
