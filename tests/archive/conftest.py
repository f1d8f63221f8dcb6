"""What several tests of the archive begin with."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from modelwarden.archive.tree import Tree


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Tree]:
    """An archive whose staging folder was entered, as it is for who holds the lock."""
    made = Tree(str(tmp_path / "archive"), "0f1e2d3c")
    made.enter_staging()
    yield made
    made.close()
