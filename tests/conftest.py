"""What holds for every test: Hypothesis without deadlines or a database in the checkout, figures, common fixtures."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("modelwarden", deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("modelwarden")

Note = Callable[[str, float], None]
"""Called with what a figure is of, and the figure."""

Figure = Callable[[str, object], None]
"""The same, and the figure comes with its unit."""


@pytest.fixture
def tried(record_property: Callable[[str, object], None]) -> Note:
    """Adds to a sum that is printed at the end of all tests: points, states, inputs."""
    return lambda what, number: record_property("sum", (what, number))


@pytest.fixture
def peak(record_property: Callable[[str, object], None]) -> Note:
    """Takes part in a maximum that is printed at the end of all tests: memory."""
    return lambda what, number: record_property("max", (what, number))


@pytest.fixture
def figure(record_property: Callable[[str, object], None]) -> Figure:
    """Has a figure printed as it is at the end of all tests."""
    return lambda what, value: record_property("told", f"{what}: {value}")


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """What is opened is closed with the test."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def no_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without settings, neither in the environment nor in the system's file."""
    for name in os.environ:
        if name.startswith("MODELWARDEN_"):
            monkeypatch.delenv(name)
    monkeypatch.setattr("modelwarden.config.whereabouts.SYSTEM_CONFIG", str(tmp_path / "etc.toml"))


@pytest.fixture
def matplotlib() -> None:
    """Skips what draws where matplotlib is missing."""
    if find_spec("matplotlib") is None:
        reason = "not run, for want of matplotlib (the extra `plots`)"
        if os.environ.get("CI"):
            pytest.fail(f"{reason}: CI has it", pytrace=False)
        pytest.skip(reason)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the figures, the sums and the maxima that the tests noted; nothing is ever asserted on them."""
    figures: dict[str, float] = {}
    for reports in terminalreporter.stats.values():
        for report in reports:
            if getattr(report, "when", None) != "call":
                continue
            for how, noted in report.user_properties:
                if how == "told":
                    terminalreporter.write_line(noted)
                elif how in {"sum", "max"}:
                    what, number = noted
                    before = figures.get(what, 0)
                    figures[what] = before + number if how == "sum" else max(before, number)
    for what, number in sorted(figures.items()):
        terminalreporter.write_line(f"{what}: {number:g}" if number < 1e5 else f"{what}: {number:.0f}")
