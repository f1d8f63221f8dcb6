"""The shipped units are valid, confined, and name what the package has."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from modelwarden.config import load_settings
from modelwarden.formats.worker import MEMORY_BYTES
from modelwarden.intake.reading import LEAST_MEMORY
from modelwarden.service.trainings import MOST_BYTES

SYSTEMD = Path(__file__).parent.parent / "systemd"
SYSTEM_UNITS = sorted(SYSTEMD.glob("*.service"))
UNITS = [*SYSTEM_UNITS, SYSTEMD / "user" / "modelwarden.service"]
EXAMPLES = sorted((SYSTEMD / "examples").glob("*.conf"))

needs_systemd_analyze = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="NO systemd-analyze HERE: the units are not verified"
)


def put_down(units: list[Path], folder: Path) -> list[str]:
    """Copies that name this machine's command; their paths. An instance form is made an instance."""
    command = str(Path(sys.executable).with_name("modelwarden"))
    made = []
    for unit in units:
        text = re.sub(r"(?<=ExecStart=)\S+(?= )", command, unit.read_text())
        copy = folder / unit.name.replace("@.", "@team.")
        copy.write_text(text)
        made.append(str(copy))
    return made


@needs_systemd_analyze
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: str(unit.relative_to(SYSTEMD)))
def test_unit_verified_by_systemd_prints_nothing(unit: Path, tmp_path: Path) -> None:
    """`systemd-analyze verify` has nothing to say; it exits 0 on unknown keys, so any output is a failure."""
    (copy,) = put_down([unit], tmp_path)
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", copy], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@needs_systemd_analyze
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_example_is_a_valid_drop_in(example: Path, tmp_path: Path) -> None:
    """Each works as it is shipped."""
    (copy,) = put_down([SYSTEMD / "modelwarden.service"], tmp_path)
    drop_in = Path(f"{copy}.d") / example.name
    drop_in.parent.mkdir()
    drop_in.write_text(example.read_text())
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", copy], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@needs_systemd_analyze
@pytest.mark.parametrize(
    ("name", "most"),
    [
        ("modelwarden.service", 0.3),
        ("modelwarden@.service", 0.3),
        ("modelwarden-courier.service", 1.2),
        ("modelwarden-courier@.service", 1.2),
    ],
)
def test_exposure_is_low(name: str, most: float, tmp_path: Path) -> None:
    """As `systemd-analyze security` scores it, 0 to 10: the one without the network is nearly shut."""
    (copy,) = put_down([SYSTEMD / name], tmp_path)
    shown = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", copy],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    score = re.search(r"Overall exposure level for \S+: ([\d.]+)", shown)
    assert score is not None, shown
    assert float(score[1]) <= most


def test_units_are_the_two_of_the_service_alone_and_as_instances() -> None:
    """One unit watches, one delivers; for several teams on a host there is an instance of each."""
    assert [unit.name for unit in SYSTEM_UNITS] == [
        "modelwarden-courier.service",
        "modelwarden-courier@.service",
        "modelwarden.service",
        "modelwarden@.service",
    ]


@pytest.mark.parametrize("name", ["modelwarden", "modelwarden-courier"])
def test_instance_differs_from_the_unit_in_its_places_alone(name: str) -> None:
    """What is hardened in one is hardened in the other."""
    alone, instance = ((SYSTEMD / f"{name}{at}.service").read_text() for at in ("", "@"))
    places = {
        "/etc/modelwarden/config.toml": "/etc/modelwarden/%i.toml",
        "/srv/modelwarden": "/srv/modelwarden/%i",
        "/var/lib/modelwarden": "/var/lib/modelwarden/%i",
        "/var/cache/modelwarden": "/var/cache/modelwarden/%i",
        "Directory=modelwarden-courier": "Directory=modelwarden-courier/%i",
        "Directory=modelwarden": "Directory=modelwarden/%i",
        "Description=modelwarden": "Description=modelwarden %i",
    }
    expected = re.sub("|".join(map(re.escape, places)), lambda found: places[found[0]], alone)
    assert instance == expected


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: str(unit.relative_to(SYSTEMD)))
def test_unit_commands_exist(unit: Path) -> None:
    """What ExecStart runs is a command of this version with these options."""
    line = next(line for line in unit.read_text().splitlines() if line.startswith("ExecStart="))
    words = line.removeprefix("ExecStart=").split()[1:]
    known = subprocess.run(
        [sys.executable, "-P", "-m", "modelwarden", words[0], "--help"], capture_output=True, text=True, check=True
    ).stdout
    assert all(word in known for word in words if word.startswith("--"))


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: str(unit.relative_to(SYSTEMD)))
def test_unit_comes_back_from_all_but_wrong_settings(unit: Path) -> None:
    """And never gives up otherwise."""
    lines = unit.read_text().splitlines()
    assert {"Restart=always", "RestartPreventExitStatus=78", "StartLimitIntervalSec=0", "Type=notify"} <= {*lines}


@pytest.mark.parametrize("name", ["modelwarden.service", "modelwarden@.service"])
def test_memory_of_the_unit_is_what_its_parts_may_take(name: str) -> None:
    """A file at its limit is refused by the worker's own, with its reason, before the kernel slows down or ends all."""
    said = dict(re.findall(r"^Memory(High|Max)=([0-9]+M|[0-9]+G)$", (SYSTEMD / name).read_text(), re.MULTILINE))
    high, most = (int(said[each][:-1]) * {"M": 2**20, "G": 2**30}[said[each][-1]] for each in ("High", "Max"))
    itself = 64 * 2**20  # the daemon and its two processes for a backlog, at rest
    waiting = 2 * MOST_BYTES  # for the worker: what was read, and a copy of what is asked about
    assert high == itself + LEAST_MEMORY + waiting + MEMORY_BYTES
    assert most > high


def test_service_settings_are_right() -> None:
    """The settings that are installed for the service load, and keep archive and state apart from the checkout."""
    settings, _ = load_settings(str(SYSTEMD / "config.toml"))
    assert settings.archive_dir == "/srv/modelwarden/archives"
    assert settings.state_dir == "/var/lib/modelwarden"
    assert tomllib.loads((SYSTEMD / "config.toml").read_text())


def test_readme_names_every_file_beside_it() -> None:
    """What is shipped is explained."""
    text = (SYSTEMD / "README.md").read_text()
    files = [path for path in SYSTEMD.rglob("*") if path.is_file() and path.name != "README.md"]
    assert [path.name for path in files if path.name not in text] == []
