"""What the crash rigs share: the lives of the product and of its commands."""

from collections.abc import Iterator

import pytest

from rigs.lives import Subjects, subjects
from rigs.mutants import PACKAGE


@pytest.fixture(scope="session")
def lives() -> Iterator[Subjects]:
    """Lives of the product as it is."""
    with subjects(PACKAGE.parent) as started:
        yield started


@pytest.fixture(scope="session")
def commands() -> Iterator[Subjects]:
    """Lives of the product's commands."""
    with subjects(PACKAGE.parent, module="rigs.command_subject") as started:
        yield started
