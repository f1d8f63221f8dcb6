"""What the crash rigs share: the product's lives, and how many points were tried."""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Final

import pytest

from rigs.lives import Subjects, subjects
from rigs.mutants import PACKAGE

POINTS: Final = "points tried"


@pytest.fixture(scope="session")
def lives() -> Iterator[Subjects]:
    """Lives of the product as it is."""
    with subjects(PACKAGE.parent) as started:
        yield started


@pytest.fixture
def tried(record_property: Callable[[str, object], None]) -> Callable[[str, int], None]:
    """Called with a rig's name and a number of points, it has them in the sum that is printed at the end."""

    def note(rig: str, points: int) -> None:
        record_property(POINTS, f"{rig}:{points}")

    return note


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print how many points each rig tried."""
    points: Counter[str] = Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            for name, value in getattr(report, "user_properties", ()):
                if name == POINTS and report.when == "call":
                    rig, _, number = value.rpartition(":")
                    points[rig] += int(number)
    for rig, number in sorted(points.items()):
        terminalreporter.write_line(f"{rig}: {number} points")
