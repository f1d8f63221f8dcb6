"""What is installed as a service is what systemd/ has, with this installation's paths and no other change."""

import os
import subprocess
import sys
import sysconfig
from importlib import resources
from pathlib import Path
from zipfile import ZipFile

import pytest

from modelwarden.cli.units import UNITS, hidden_by, is_untouched, system_pieces, this_program, user_pieces
from modelwarden.errors import StopService
from processes import clean_environment

ROOT = Path(__file__).parents[2]
SYSTEMD = ROOT / "systemd"


@pytest.fixture
def installed_at(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An installation whose environment is `root/opt/team/modelwarden` below the test's folder."""
    environment = tmp_path / "root" / "opt" / "team" / "modelwarden"
    install_in(environment, monkeypatch)
    return environment


def install_in(environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make it look as if this process ran from there."""
    (environment / "bin").mkdir(parents=True)
    (environment / "bin" / "modelwarden").touch(0o755)
    monkeypatch.setattr(sys, "prefix", str(environment))
    monkeypatch.setattr(sys, "base_prefix", "/usr")
    monkeypatch.setattr(sysconfig, "get_path", lambda _name: str(environment / "bin"))


SOURCES = {
    **{name: name for name in (*UNITS, "modelwarden.sysusers.conf", "modelwarden.tmpfiles.conf", "config.toml")},
    "user.service": "user/modelwarden.service",
}
"""The files that the package carries, each with its place in systemd/."""


def test_wheel_carries_the_files_of_systemd_as_they_are(tmp_path: Path) -> None:
    """One source: the copies in a wheel are made by the build."""
    program = f"from hatchling import build\nbuild.build_wheel({str(tmp_path)!r})"
    subprocess.run([sys.executable, "-P", "-c", program], cwd=ROOT, env=clean_environment(), check=True)
    (file,) = tmp_path.iterdir()
    here = "modelwarden/units/"
    with ZipFile(file) as wheel:
        carried = {name.removeprefix(here): wheel.read(name) for name in wheel.namelist() if here in name}
    assert carried == {name: (SYSTEMD / source).read_bytes() for name, source in SOURCES.items()}


def test_package_as_it_is_installed_here_has_the_same_files() -> None:
    """An editable install reads the checkout's own."""
    folder = resources.files("modelwarden").joinpath("units")
    carried = {each.name: each.read_bytes() for each in folder.iterdir()}
    assert carried == {name: (SYSTEMD / source).read_bytes() for name, source in SOURCES.items()}


@pytest.mark.usefixtures("installed_at")
def test_installation_as_in_the_readme_gets_the_shipped_texts(tmp_path: Path) -> None:
    """Under /opt/modelwarden nothing is to be put in."""
    program = this_program(str(tmp_path / "root"))._replace(
        command="/opt/modelwarden/bin/modelwarden", folders=["/opt/modelwarden", "/usr"]
    )
    for piece in system_pieces(program)[:4]:
        assert piece.text == (SYSTEMD / os.path.basename(piece.path)).read_text()


def test_unit_names_the_command_and_lets_it_be_run(installed_at: Path) -> None:
    """What runs is outside /usr, so the environment is in ExecPaths, and nothing of /opt/modelwarden is left."""
    for piece in system_pieces(this_program(None))[:4]:
        assert f"ExecStart={installed_at}/bin/modelwarden " in piece.text
        assert f"ExecPaths={installed_at} /usr /lib /lib64\n" in piece.text
        assert "/opt/modelwarden" not in piece.text


def test_interpreter_outside_usr_may_be_run_too(installed_at: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment runs the interpreter that it was made with."""
    monkeypatch.setattr(sys, "base_prefix", "/opt/python3.13")
    unit = system_pieces(this_program(None))[0].text
    assert f"ExecPaths={installed_at} /opt/python3.13 /usr /lib /lib64\n" in unit


def test_installation_below_the_prefix_is_named_without_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Who puts a package together runs the command that lies in it; what lies below /usr needs no ExecPaths."""
    install_in(tmp_path / "usr" / "lib" / "modelwarden", monkeypatch)
    unit = system_pieces(this_program(str(tmp_path)))[0].text
    assert "ExecStart=/usr/lib/modelwarden/bin/modelwarden run " in unit
    assert "ExecPaths=/usr /lib /lib64\n" in unit


def test_users_unit_names_the_users_command(installed_at: Path) -> None:
    """And the settings to begin with are the example."""
    unit, settings = user_pieces(this_program(None), "/home/alice/.config")
    assert f"ExecStart={installed_at}/bin/modelwarden run --config %E/modelwarden/config.toml\n" in unit.text
    assert (settings.text, settings.mode) == ((ROOT / "config.example.toml").read_text(), 0o600)


@pytest.mark.parametrize(
    "name", ["two words", "100%", "a$b", 'a"b', "a\\b", "a;b", "line\nbreak", os.fsdecode(b"\xff")]
)
def test_path_that_a_unit_cannot_name_is_refused(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Not installed and broken, but one sentence with the path and what to do."""
    install_in(tmp_path / name, monkeypatch)
    with pytest.raises(StopService, match="can't name this path") as caught:
        this_program(None)
    assert str(caught.value).isprintable()


def test_path_of_letters_of_any_script_is_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Units are UTF-8."""
    install_in(tmp_path / "jürgen", monkeypatch)
    assert "/jürgen/bin/modelwarden run" in system_pieces(this_program(None))[0].text


def test_installation_without_a_command_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A unit would start nothing."""
    monkeypatch.setattr(sysconfig, "get_path", lambda _name: str(tmp_path))
    with pytest.raises(StopService, match="no command there"):
        this_program(None)


@pytest.mark.parametrize(("folder", "line"), [("/home/alice/x", "ProtectHome="), ("/var/tmp/x", "PrivateTmp=")])
@pytest.mark.usefixtures("installed_at")
def test_place_that_the_units_do_not_see_is_named(folder: str, line: str) -> None:
    """An environment under /home, or a checkout that it is an editable install of."""
    program = this_program(None)._replace(command="/opt/x/bin/modelwarden", folders=["/opt/x", "/usr"], code="/opt/x/y")
    assert list(hidden_by(program)) == []
    for hidden in (program._replace(folders=["/opt/x", folder]), program._replace(code=folder)):
        (said,) = hidden_by(hidden)
        assert folder in said
        assert line in said


@pytest.mark.usefixtures("installed_at")
def test_file_is_known_as_untouched_until_a_byte_changes() -> None:
    """The line above the text tells a file of another version from one that a person changed."""
    for piece in system_pieces(this_program(None))[:6]:
        assert is_untouched(piece.data)
        assert not is_untouched(piece.data.replace(b"modelwarden -", b"modelwarden  -") + b"\n")
        assert not is_untouched(piece.text.encode())
