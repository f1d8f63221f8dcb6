"""The Debian package: built as its script says, installed on a clean system, upgraded, removed, purged."""

import gzip
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from processes import until
from rigs.booted_host import booted_host
from rigs.debian import debian, do_in
from summaries import BAD, GOOD, encoded, flat_summary

pytestmark = [pytest.mark.boot, pytest.mark.timeout(900)]

BUILD = "SOURCE_DATE_EPOCH=1700000000 /src/systemd/debian/build"
CONFIG = "etc/modelwarden/config.toml"
PROGRAM = "usr/lib/modelwarden"
ELSEWHERE = ("/proc", "/root", "/var/log", "/srv/modelwarden/*", "/var/lib/modelwarden/*")
OURS = "find / -xdev " + " ".join(f"-path '{each}' -prune -o" for each in ELSEWHERE) + " -iname '*modelwarden*' -print"
"""All that has our name; of the two folders that may stay, themselves alone."""


class Built(NamedTuple):
    """The package, and the system that it was built on."""

    file: Path
    root: Path


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Built]:
    """The package, built from the checkout as the script's first lines say."""
    folder = tmp_path_factory.mktemp("package")
    with debian(folder / "root") as root:
        do_in(root, "apt-get update -qq; DEBIAN_FRONTEND=noninteractive apt-get install -y -qq python3-venv")
        do_in(root, f"mkdir /first; {BUILD} /first")
        (file,) = (root / "first").iterdir()
        yield Built(Path(shutil.copy(file, folder)), root)


@pytest.fixture
def clean(built: Built, tmp_path: Path) -> Iterator[Path]:
    """A system on which the package alone was installed; systemd does not run it."""
    with debian(tmp_path / "root", checkout=False) as root:
        shutil.copy(built.file, root / "root" / "modelwarden.deb")
        do_in(root, "dpkg -i /root/modelwarden.deb")
        yield root


def test_same_source_makes_the_same_bytes(built: Built) -> None:
    """With one SOURCE_DATE_EPOCH, in another temporary folder, at another time."""
    do_in(built.root, f"mkdir /second; {BUILD} /second")
    assert (built.root / "second" / built.file.name).read_bytes() == built.file.read_bytes()


def test_package_says_what_it_is_and_holds_what_belongs_there(built: Built) -> None:
    """Root's files alone, in the places of a package; the settings are the administrator's."""
    name, version, architecture = re.fullmatch(r"(.+)_(.+)_(.+)\.deb", built.file.name).groups()  # type: ignore[union-attr]
    fields = subprocess.run(["dpkg-deb", "--field", built.file], capture_output=True, text=True, check=True).stdout
    for line in (f"Package: {name}", f"Version: {version}", f"Architecture: {architecture}"):
        assert f"{line}\n" in fields
    assert "Depends: python3 (>= 3.11), python3 (<< 3.12), libc6, systemd (>= 252)\n" in fields
    listed = subprocess.run(["dpkg-deb", "--contents", built.file], capture_output=True, text=True, check=True).stdout
    lines = listed.splitlines()
    assert {line.split()[1] for line in lines} == {"root/root"}
    paths = {line.split()[5].removeprefix(".").rstrip("/") for line in lines}
    assert {path for path in paths if path.startswith("/etc/")} == {"/etc/modelwarden", f"/{CONFIG}"}
    for unit in ("modelwarden.service", "modelwarden-courier@.service"):
        assert f"/usr/lib/systemd/system/{unit}" in paths
    assert not [path for path in paths if re.search(r"/bin/(pip|activate)|/direct_url\.json|/RECORD", path)]


def test_clean_system_gets_the_command_the_page_and_completion(clean: Path) -> None:
    """One command on the PATH, that runs with nothing else installed."""
    said = do_in(clean, "modelwarden --version; command -v modelwarden").split()
    assert said[0] == "modelwarden"
    assert said[2] == "/usr/bin/modelwarden"
    assert b".SH NAME" in gzip.decompress((clean / "usr/share/man/man1/modelwarden.1.gz").read_bytes())
    for path in ("bash-completion/completions/modelwarden", "zsh/vendor-completions/_modelwarden"):
        assert "modelwarden completion" in (clean / "usr/share" / path).read_text()
    unit = (clean / "usr/lib/systemd/system/modelwarden.service").read_text()
    assert f"ExecStart=/{PROGRAM}/bin/modelwarden run " in unit
    assert "ExecPaths=/usr /lib /lib64\n" in unit
    assert do_in(clean, "systemd-analyze verify --man=no modelwarden.service modelwarden-courier.service 2>&1") == ""
    assert do_in(clean, f"stat -c '%U:%G %a' /{CONFIG}; dpkg --verify modelwarden") == "root:modelwarden 640\n"


def test_purge_leaves_nothing_but_the_archive(clean: Path) -> None:
    """Settings, credentials and state go; the archive stays, and so does the account that owns it."""
    (clean / "srv/modelwarden/incoming/x.json").write_bytes(encoded(flat_summary({"AAPL": GOOD})))
    as_it = "setpriv --reuid=modelwarden --regid=modelwarden --init-groups modelwarden"
    do_in(
        clean,
        f"{as_it} run --once --config /dev/null --watch /srv/modelwarden/incoming --archive /srv/modelwarden/archives; "
        "install -d -o modelwarden /var/lib/modelwarden; touch /var/lib/modelwarden/modelwarden.sqlite; "
        "echo secret > /etc/modelwarden/credentials/team",
    )
    index = (clean / "srv/modelwarden/archives/index.json").read_bytes()
    assert len(json.loads(index)["runs"]) == 1
    assert "/srv/modelwarden stays" in do_in(clean, "dpkg --purge modelwarden")
    assert (clean / "srv/modelwarden/incoming/x.json").exists(), "what a trainer left is the trainer's"
    assert do_in(clean, OURS).split() == ["/srv/modelwarden"]
    assert (clean / "srv/modelwarden/archives/index.json").read_bytes() == index
    assert do_in(clean, "stat -c %U /srv/modelwarden/archives") == "modelwarden\n"


def test_purge_of_an_archive_among_the_state_leaves_it(clean: Path) -> None:
    """Wherever an archive lies: /var/lib/modelwarden goes only if there is none in it. An empty one in /srv goes."""
    archive = clean / "var/lib/modelwarden/team/archives"
    archive.mkdir(parents=True)
    (archive / ".archive.json").write_text("{}")
    do_in(clean, "dpkg --purge modelwarden 2>&1 | grep '/var/lib/modelwarden holds an archive'")
    assert do_in(clean, OURS).split() == ["/var/lib/modelwarden"]
    assert (archive / ".archive.json").exists()


def test_package_lives_on_a_booted_system(built: Built, tmp_path: Path) -> None:
    """Installed and not started; enabled, it archives; an upgrade restarts what ran and keeps what was set."""
    both = "modelwarden modelwarden-courier"
    with booted_host(tmp_path, checkout=False) as host:
        shutil.copy(built.file, host.root / "root" / "modelwarden.deb")
        said = host.do("dpkg -i /root/modelwarden.deb")
        assert f"systemctl enable --now {both}" in said
        assert host.say(f"systemctl is-active {both}; systemctl is-enabled {both}").split() == [
            *["inactive"] * 2,
            *["disabled"] * 2,
        ]
        host.do(f"echo '# mine' >> /{CONFIG}; systemctl enable --now {both}")
        archives = host.root / "srv/modelwarden/archives"

        def archive(name: str) -> None:
            data = encoded(flat_summary({"AAPL": GOOD, "MSFT": BAD}, run_name=name))
            (host.root / "root" / name).write_bytes(data)
            host.do(f"id alice || useradd -m -G modelwarden-drop alice; chmod 755 /root; chmod 644 /root/{name}")
            host.do(f"umask 077; cd /srv/modelwarden/incoming; cp /root/{name} .x; mv .x {name}.json", user="alice")
            index = archives / "index.json"
            until(lambda: index.exists() and name in index.read_text(), host.say("journalctl -n 30 --no-pager"), 60)

        archive("before")
        process = host.shows("modelwarden", "MainPID")
        host.do("systemctl stop modelwarden-courier; dpkg -i /root/modelwarden.deb")
        assert host.shows("modelwarden", "MainPID") not in {process, "0"}
        assert host.say(f"systemctl is-active {both}").split() == ["active", "inactive"], "what did not run, does not"
        assert host.say(f"systemctl is-enabled {both}").split() == ["enabled"] * 2
        assert host.do(f"tail -n1 /{CONFIG}") == "# mine"
        assert host.do(f"stat -c '%U:%G %a' /{CONFIG}") == "root:modelwarden 640"
        archive("after")
        done = host.run(f"/{PROGRAM}/bin/modelwarden service install")
        assert done.returncode == 2
        assert "a package has installed the units already" in done.stderr

        host.do("dpkg --remove modelwarden")
        assert host.say(f"systemctl is-active {both}").split() == ["inactive"] * 2
        assert host.do(f"tail -n1 /{CONFIG}; ls /var/lib/modelwarden/modelwarden.sqlite").startswith("# mine")
        host.do("dpkg --purge modelwarden; rm /srv/modelwarden/incoming/*; rmdir /srv/modelwarden/incoming")
        assert host.do(f"{OURS} | grep -v '^/run/'").split() == ["/srv/modelwarden"]
        assert {run["run_name"] for run in json.loads((archives / "index.json").read_bytes())["runs"]} == {
            "before",
            "after",
        }
        assert host.do("systemctl --failed --no-legend --plain") == ""
