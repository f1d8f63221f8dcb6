"""`service install` and `service remove`, below a folder of the test's own: nothing of this machine's is touched."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from answers import answer
from commands import Done, command
from modelwarden.cli import installing
from modelwarden.cli.units import PACKAGE_UNIT, Piece, is_untouched
from processes import modelwarden

SYSTEM = "etc/systemd/system"
WATCHER = f"{SYSTEM}/modelwarden.service"
SETTINGS = "etc/modelwarden/config.toml"
WRITTEN = {
    WATCHER,
    f"{SYSTEM}/modelwarden-courier.service",
    f"{SYSTEM}/modelwarden@.service",
    f"{SYSTEM}/modelwarden-courier@.service",
    "etc/sysusers.d/modelwarden.conf",
    "etc/tmpfiles.d/modelwarden.conf",
    SETTINGS,
}

needs_systemd_analyze = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="NO systemd-analyze HERE: what is written is not verified"
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Where all is put. Its name is one that no unit could have."""
    return tmp_path / "a root"


def service(what: str, root: Path, *options: str) -> Done:
    """Run the command below that root; what it says of this machine's own paths is left out."""
    done = command("service", what, "--prefix", root, *options)
    said = [line for line in done.err.splitlines(keepends=True) if "these units will not start it" not in line]
    return done._replace(err="".join(said))


def files(root: Path) -> set[str]:
    """All that is there but folders."""
    return {str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir() or path.is_symlink()}


def words(done: Done) -> list[str]:
    """What was done, a word a line."""
    return [line.split()[0] for line in done.lines]


def test_install_writes_all_files_and_says_each(root: Path) -> None:
    """A line for each; settings that may come to hold tokens are nobody else's, the rest everybody may read."""
    before = os.umask(0o077)
    try:
        done = service("install", root)
    finally:
        os.umask(before)
    assert (done.code, done.err) == (0, "")
    assert files(root) == WRITTEN
    assert {line.partition("wrote")[2].strip() for line in done.lines} == {str(root / path) for path in WRITTEN}
    modes = {path: (root / path).stat().st_mode & 0o777 for path in WRITTEN}
    assert modes == {**dict.fromkeys(WRITTEN, 0o644), SETTINGS: 0o600}
    assert (root / SYSTEM).stat().st_mode & 0o777 == 0o755


def test_install_a_second_time_has_nothing_to_do(root: Path) -> None:
    """Not a file is written again."""
    service("install", root)
    before = {path: (root / path).stat().st_mtime_ns for path in WRITTEN}
    done = service("install", root)
    assert (done.code, done.lines[-1]) == (0, "nothing to do: all is as it must be")
    assert sorted(words(done)[:-1]) == ["kept", *["unchanged"] * 6]
    assert {path: (root / path).stat().st_mtime_ns for path in WRITTEN} == before


@needs_systemd_analyze
def test_systemd_has_nothing_to_say_of_what_is_written(root: Path) -> None:
    """`systemd-analyze verify` exits 0 on unknown keys, so any output is a failure."""
    service("install", root)
    for unit in sorted((root / SYSTEM).iterdir()):
        instance = unit.rename(unit.with_name(unit.name.replace("@.", "@team.")))
        verify = ["systemd-analyze", "verify", "--man=no", str(instance)]
        done = subprocess.run(verify, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout + done.stderr) == (0, "")


@needs_systemd_analyze
@pytest.mark.parametrize(("name", "most"), [("modelwarden", 0.3), ("modelwarden-courier", 1.2)])
def test_exposure_of_what_is_written_is_low(root: Path, name: str, most: float) -> None:
    """As of what is shipped: this installation's paths open nothing."""
    service("install", root)
    ask = ["systemd-analyze", "security", "--offline=true", "--no-pager", str(root / SYSTEM / f"{name}.service")]
    shown = subprocess.run(ask, capture_output=True, text=True, check=True).stdout
    score = re.search(r"Overall exposure level for \S+: ([\d.]+)", shown)
    assert score is not None, shown
    assert float(score[1]) <= most


@needs_systemd_analyze
def test_users_manager_has_nothing_to_say_of_the_users_unit(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--user` writes to $XDG_CONFIG_HOME what a user's manager takes."""
    monkeypatch.setenv("XDG_CONFIG_HOME", "/home/alice/.config")
    assert service("install", root, "--user").code == 0
    unit = root / "home/alice/.config/systemd/user/modelwarden.service"
    assert files(root) == {str(unit.relative_to(root)), "home/alice/.config/modelwarden/config.toml"}
    done = subprocess.run(
        ["systemd-analyze", "--user", "verify", "--man=no", unit],
        env=os.environ | {"XDG_RUNTIME_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    said = (done.stdout + done.stderr).splitlines()  # of this machine's other units too
    assert (done.returncode, [line for line in said if "modelwarden" in line.replace(str(tmp_path), "")]) == (0, [])


@pytest.mark.parametrize("named", ["", "not/absolute"])
def test_user_without_a_config_home_has_it_in_the_home(root: Path, monkeypatch: pytest.MonkeyPatch, named: str) -> None:
    """As the XDG specification has it: a relative $XDG_CONFIG_HOME does not count."""
    monkeypatch.setenv("XDG_CONFIG_HOME", named)
    monkeypatch.setenv("HOME", "/home/bob")
    service("install", root, "--user")
    assert (root / "home/bob/.config/systemd/user/modelwarden.service").is_file()


def test_file_of_another_version_is_replaced_without_a_word_of_change(root: Path) -> None:
    """An upgrade is no person's change."""
    service("install", root)
    unit = root / WATCHER
    moved = unit.read_bytes().replace(os.fsencode(sys.prefix), b"/opt/elsewhere").partition(b"\n")[2]
    unit.write_bytes(Piece("", moved.decode()).data)
    done = service("install", root)
    assert done.code == 0
    assert f"replaced   {unit}" in done.lines
    assert b"/opt/elsewhere" not in unit.read_bytes()
    assert files(root) == WRITTEN


def test_shipped_file_that_was_copied_by_hand_is_unchanged(root: Path) -> None:
    """Who did it with `install -m 644` has the same text without the line above it."""
    service("install", root)
    unit = root / WATCHER
    unit.write_bytes(unit.read_bytes().partition(b"\n")[2])
    assert words(service("install", root)).count("unchanged") == 6


@pytest.mark.parametrize("change", ["line", "emptied", "masked", "not text"])
def test_file_that_a_person_changed_is_left_until_forced(root: Path, change: str) -> None:
    """It is said, the exit code tells a script, and --force keeps a copy of each."""
    service("install", root)
    unit = root / WATCHER
    match change:
        case "line":
            unit.write_bytes(unit.read_bytes().replace(b"Nice=10", b"Nice=19"))
        case "emptied":
            unit.write_bytes(b"")
        case "not text":
            unit.write_bytes(b"\xff\0")
        case _:
            unit.unlink()
            unit.symlink_to("/dev/null")
    mine = os.readlink(unit) if unit.is_symlink() else unit.read_bytes()
    done = service("install", root)
    assert (done.code, done.err) == (1, "")
    assert f"left       {unit}: not as install wrote it; --force replaces it, and keeps a copy" in done.lines
    assert (os.readlink(unit) if unit.is_symlink() else unit.read_bytes()) == mine
    done = service("install", root, "--force")
    copy = unit.with_name("modelwarden.service.bak")
    assert done.code == 0
    assert f"replaced   {unit}: what was there is {copy}" in done.lines
    assert (os.readlink(copy) if copy.is_symlink() else copy.read_bytes()) == mine
    assert is_untouched(unit.read_bytes())


def test_copy_takes_no_other_copys_place(root: Path) -> None:
    """Two changes, two copies."""
    service("install", root)
    for text in (b"one", b"two"):
        (root / WATCHER).write_bytes(text)
        service("install", root, "--force")
    folder = root / SYSTEM
    assert (folder / "modelwarden.service.bak").read_bytes() == b"one"
    assert (folder / "modelwarden.service.bak2").read_bytes() == b"two"


def test_settings_are_never_replaced(root: Path) -> None:
    """Not even by force."""
    service("install", root)
    (root / SETTINGS).write_bytes(b"mine")
    for done in (service("install", root, "--force"), service("remove", root, "--force")):
        assert f"kept       {root / SETTINGS}: settings are yours" in done.lines
    assert (root / SETTINGS).read_bytes() == b"mine"


def test_remove_takes_all_away_but_what_is_a_persons(root: Path) -> None:
    """Settings stay, and drop-ins; it says so. A second time there is nothing to do."""
    service("install", root)
    drop_in = root / f"{WATCHER}.d" / "x.conf"
    drop_in.parent.mkdir()
    drop_in.touch()
    done = service("remove", root)
    assert (done.code, done.err) == (0, "")
    assert files(root) == {SETTINGS, str(drop_in.relative_to(root))}
    assert words(done) == ["removed"] * 6 + ["kept", "kept:"]
    assert not (root / "etc/sysusers.d").exists()
    again = service("remove", root)
    assert (again.code, again.lines[-2]) == (0, "nothing to do: none of it is there")


def test_remove_leaves_a_changed_file_until_forced(root: Path) -> None:
    """And then keeps a copy, which systemd does not read."""
    service("install", root)
    (root / WATCHER).write_bytes(b"mine")
    done = service("remove", root)
    assert done.code == 1
    assert files(root) == {SETTINGS, WATCHER}
    done = service("remove", root, "--force")
    assert done.code == 0
    assert files(root) == {SETTINGS, f"{WATCHER}.bak"}
    assert (root / f"{WATCHER}.bak").read_bytes() == b"mine"


def test_dry_run_says_all_and_does_nothing(root: Path) -> None:
    """Installing and removing, changed files too."""
    done = service("install", root, "--dry-run")
    assert (done.code, len(done.lines)) == (0, 7)
    assert {line.partition("would write")[2].strip() for line in done.lines} == {str(root / path) for path in WRITTEN}
    assert not root.exists()
    service("install", root)
    (root / WATCHER).write_bytes(b"mine")
    assert f"would replace  {root / WATCHER}" in service("install", root, "--dry-run", "--force").out
    assert f"would remove   {root / WATCHER}" in service("remove", root, "--dry-run", "--force").out
    assert (files(root), (root / WATCHER).read_bytes()) == (WRITTEN, b"mine")


def test_dry_run_for_this_machine_runs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """It needs no root, and says what root would run."""
    monkeypatch.setattr(subprocess, "run", pytest.fail)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    done = command("service", "install", "--dry-run")
    assert done.code in {0, 1}, done.err  # 1: this machine has units that somebody changed
    for tool in ("systemd-sysusers modelwarden.conf", "systemd-tmpfiles --create", "systemctl daemon-reload"):
        assert f"would run      {tool}" in done.out


def refused(*arguments: str | Path) -> str:
    """The one message of a refusal."""
    done = command("service", "install", *arguments)
    assert done.code == 2
    *_, message = done.err.splitlines()
    assert message.startswith("modelwarden: ")
    assert "Traceback" not in done.err
    return message


def test_relative_prefix_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is written to where somebody happens to be."""
    monkeypatch.chdir(tmp_path)
    assert "--prefix root: must be an absolute path" in refused("--prefix", "root")
    assert list(tmp_path.iterdir()) == []


def test_this_machine_needs_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """Said before anything is written, with what needs none."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    message = refused()
    assert "the system's units are root's" in message
    assert "--user, --prefix DIR or --dry-run" in message


def test_place_that_the_service_cannot_see_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is installed that could not start; below a prefix it is a warning, for that is another machine's."""
    monkeypatch.setattr(installing, "hidden_by", lambda _program: iter(["/home/x is under /home, which hides it"]))
    monkeypatch.setattr(installing, "_insist_on_system", lambda **_: None)
    assert "/home/x is under /home, which hides it: install modelwarden under /opt" in refused()


def test_machine_without_systemd_is_told_of_the_prefix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a container, or on another init."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(installing, "_BOOTED", str(tmp_path / "nowhere"))
    assert "systemd does not run this machine: `--prefix /`" in refused()


def test_units_of_a_package_are_not_doubled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is in /etc would hide what the package upgrades."""
    assert PACKAGE_UNIT.startswith("/usr/lib/")
    unit = tmp_path / "modelwarden.service"
    unit.touch()
    monkeypatch.setattr(installing, "PACKAGE_UNIT", str(unit))
    assert "a package has installed the units already" in refused()


@pytest.mark.parametrize("place", ["/proc/of-nobody", "/dev/null"])
def test_place_that_takes_no_files_is_one_message(place: str) -> None:
    """It says which, and that nothing was changed."""
    message = refused("--prefix", place)
    assert place in message
    assert "nothing was changed; " in message


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere: the case above stands in for it")
def test_folder_without_the_right_to_write_is_one_message(root: Path) -> None:
    """It says who may."""
    root.mkdir(0o500)
    assert "nothing was changed; run it as root; mend it and run this again" in refused("--prefix", root)


def test_half_done_is_said_and_finished_by_the_same_command(root: Path) -> None:
    """Something is in the way of the fifth file: four are there, and the next try does the rest."""
    obstacle = root / "etc/sysusers.d/modelwarden.conf"
    obstacle.mkdir(parents=True)
    message = refused("--prefix", root)
    assert f"{obstacle}: a folder is in the place of a file: half done" in message
    assert len(files(root)) == 4
    obstacle.rmdir()
    done = service("install", root)
    assert done.code == 0
    assert files(root) == WRITTEN


@pytest.mark.parametrize(("reader", "code"), [("gone", 0), ("full", 74)])
def test_output_that_nobody_takes_stops_no_work(root: Path, reader: str, code: int) -> None:
    """`service install | head -1` installs all: half of it would be worse than silence."""
    if reader == "full":
        stdout = os.open("/dev/full", os.O_WRONLY)
    else:
        ours, stdout = os.pipe()
        os.close(ours)
    try:
        done = modelwarden("service", "install", "--prefix", root, stdout=stdout)
    finally:
        os.close(stdout)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert files(root) == WRITTEN


@pytest.mark.parametrize("name", [b"\xff", b"l\nbreak", "\u202e".encode(), b"%h $x"])
def test_prefix_of_any_name_is_taken_and_shown_in_lines(tmp_path: Path, name: bytes) -> None:
    """It is only where files are put: no unit has it. A line stays a line."""
    root = tmp_path / os.fsdecode(name)
    done = service("install", root)
    assert (done.code, done.err) == (0, "")
    assert files(root) == WRITTEN
    assert len(done.lines) == len(WRITTEN)
    assert all(line.isprintable() for line in done.lines)


UNSEEN = "(modelwarden: .*these units will not start it\n)?"


def test_steps_are_told_as_data(root: Path) -> None:
    """Each file and what became of it: at a try, at an install, where one was changed, and at a removal."""
    where = ("--prefix", root)
    tried = answer("service install", *where, "--dry-run", warns=UNSEEN)
    assert (tried["dry_run"], root.exists()) == (True, False)
    done = answer("service install", *where, warns=UNSEEN)
    assert tried["files"] == done["files"]
    assert {each["file"]: each["outcome"] for each in done["files"]} == dict.fromkeys(
        (str(root / name) for name in WRITTEN), "wrote"
    )
    with (root / WATCHER).open("a") as stream:
        stream.write("# mine\n")
    again = answer("service install", *where, code=1, warns=UNSEEN)
    came = {each["file"]: each for each in again["files"]}
    assert came[str(root / WATCHER)]["outcome"] == "left"
    assert "--force" in came[str(root / WATCHER)]["remark"]
    assert came[str(root / SETTINGS)]["outcome"] == "kept"
    removed = answer("service remove", *where, code=1)
    assert sorted(each["outcome"] for each in removed["files"]) == ["kept", "left", *["removed"] * (len(WRITTEN) - 2)]


def test_half_done_is_told_as_data_too(root: Path) -> None:
    """What was done is in the answer, and what was in the way on standard error."""
    (root / "etc/sysusers.d/modelwarden.conf").mkdir(parents=True)
    done = answer("service install", "--prefix", root, code=2, warns=f"{UNSEEN}modelwarden: .*: half done.*\n")
    assert [each["outcome"] for each in done["files"]] == ["wrote"] * 4


def test_commands_and_next_steps_are_told_as_data(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a user's own service: what is run, what could not be, and what is left to do."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(root))
    monkeypatch.setenv("PATH", str(root))
    monkeypatch.setattr(installing, "_TOOLS", str(root))
    done = answer("service install", "--user", warns=UNSEEN)
    (ran,) = done["commands"]
    assert (ran["command"], ran["outcome"]) == ("systemctl --user daemon-reload", "not run")
    assert "there is no systemctl" in ran["remark"]
    assert any(each.startswith("systemctl --user enable --now modelwarden") for each in done["next"])
    tried = answer("service remove", "--user", "--dry-run")
    assert [each["outcome"] for each in tried["commands"]] == ["ran"] * 3
