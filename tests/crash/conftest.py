"""What the crash rigs share: the product's lives."""

from collections.abc import Iterator

import pytest

from rigs.lives import Subjects, subjects
from rigs.mutants import PACKAGE


@pytest.fixture(scope="session")
def lives() -> Iterator[Subjects]:
    """Lives of the product as it is."""
    with subjects(PACKAGE.parent) as started:
        yield started
