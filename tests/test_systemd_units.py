"""The shipped units are valid, and name what the package has."""

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from modelwarden.config import load_settings

SYSTEMD = Path(__file__).parent.parent / "systemd"
UNITS = sorted(SYSTEMD.glob("*.service"))


@pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="NO systemd-analyze HERE: the units are not verified"
)
def test_units_verified_by_systemd_print_nothing(tmp_path: Path) -> None:
    """`systemd-analyze verify` has nothing to say; it exits 0 on unknown keys, so any output is a failure."""
    command = Path(sys.executable).with_name("modelwarden")
    for unit in UNITS:
        text = unit.read_text().replace("/opt/modelwarden/bin/modelwarden", str(command))
        (tmp_path / unit.name).write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *(str(tmp_path / unit.name) for unit in UNITS)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_units_are_the_two_of_the_service() -> None:
    """One unit watches, one delivers."""
    assert [unit.name for unit in UNITS] == ["modelwarden-courier.service", "modelwarden.service"]


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_unit_commands_exist(unit: Path) -> None:
    """What ExecStart runs is a command of this version with these options."""
    line = next(line for line in unit.read_text().splitlines() if line.startswith("ExecStart="))
    words = line.removeprefix("ExecStart=").split()[1:]
    known = subprocess.run(
        [sys.executable, "-P", "-m", "modelwarden", words[0], "--help"], capture_output=True, text=True, check=True
    ).stdout
    assert all(word in known for word in words if word.startswith("--"))


def test_service_settings_are_right() -> None:
    """The settings that are installed for the service load, and keep archive and state apart from the checkout."""
    settings, _ = load_settings(str(SYSTEMD / "config.toml"))
    assert settings.archive_dir == "/srv/modelwarden/archives"
    assert settings.state_dir == "/var/lib/modelwarden"
    assert tomllib.loads((SYSTEMD / "config.toml").read_text())
