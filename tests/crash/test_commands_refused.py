"""Every call of a command that changes the archive refused once: no space, a broken disk, a disk that is read-only.

The rule: a command that ends with a sentence and exit code 2 says where; it decided nothing, and of what it was to
remove each run is there whole, or is gone. One that ends well did what it was asked. The same command again ends it.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from rigs.command_sweeps import IMPORT, PRUNING, refuse_each, review
from rigs.lives import Subjects

pytestmark = [pytest.mark.crash, pytest.mark.timeout(400)]

Tried = Callable[[str, int], None]

ERRORS: Final = ("ENOSPC", "EIO", "EROFS")


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("first", [True, False], ids=["first", "second"])
def test_review_refused_anything_decides_or_says_that_it_did_not(
    tmp_path: Path, commands: Subjects, tried: Tried, first: bool, error: str
) -> None:
    """Exit code 0 and a decision, or 2 and none."""
    swept = review(first=first)
    tried("errno sweep, review: points", refuse_each(swept.begin(tmp_path, commands), swept, error))


@pytest.mark.parametrize("error", ERRORS)
def test_prune_refused_anything_removes_whole_runs(
    tmp_path: Path, commands: Subjects, tried: Tried, error: str
) -> None:
    """Exit code 0 and all are gone, or 2: each is there whole, or is gone."""
    tried("errno sweep, prune: points", refuse_each(PRUNING.begin(tmp_path, commands), PRUNING, error))


@pytest.mark.parametrize("error", ERRORS)
def test_import_refused_anything_archives_or_says_that_it_did_not(
    tmp_path: Path, commands: Subjects, tried: Tried, error: str
) -> None:
    """Exit code 0 and all are archived; else 1 or 2, and the same command again brings in what is left."""
    tried("errno sweep, import: points", refuse_each(IMPORT.begin(tmp_path, commands), IMPORT, error))
