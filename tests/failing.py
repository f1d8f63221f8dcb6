"""System calls that fail where a test says so."""

import os
from collections.abc import Callable

import pytest


def fail_fsync(monkeypatch: pytest.MonkeyPatch, fails: Callable[[str], bool], code: int) -> None:
    """Let the fsync of files at such paths fail."""
    real_fsync = os.fsync

    def fsync(descriptor: int) -> None:
        if fails(os.readlink(f"/proc/self/fd/{descriptor}")):
            raise OSError(code, os.strerror(code))
        real_fsync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
