"""What the delivery rigs share: figures that are measured and told, and never asserted on."""

from collections.abc import Callable
from typing import Final

import pytest

FIGURE: Final = "figure"

Figure = Callable[[str, object], None]


@pytest.fixture
def figure(record_property: Callable[[str, object], None]) -> Figure:
    """Called with what was measured and the value with its unit, it has both printed at the end."""

    def note(what: str, value: object) -> None:
        record_property(FIGURE, f"{what}: {value}")

    return note


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the figures."""
    for reports in terminalreporter.stats.values():
        for report in reports:
            for name, value in getattr(report, "user_properties", ()):
                if name == FIGURE and report.when == "call":
                    terminalreporter.write_line(value)
