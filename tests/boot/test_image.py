"""The image: its Containerfile's steps done in root file systems of our own, and its command started as by an engine.

The engine's part is systemd-nspawn's: the entrypoint is process 1, a user with no capability, on a read-only root, with
the volumes alone to write to, and without a /tmp.
"""

import os
import shlex
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from processes import DIES_WITH_US, index_of, until
from rigs.debian import copy_checkout, in_container
from rigs.image import Image, built_image
from summaries import BAD, GOOD, encoded, flat_summary

pytestmark = [pytest.mark.boot, pytest.mark.timeout(900)]

OWNER = 10_001
CONTAINERFILE = "systemd/container/Containerfile"


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    """The image, built from the checkout."""
    folder = tmp_path_factory.mktemp("image")
    copy_checkout(folder / "context")
    with built_image(folder / "context" / CONTAINERFILE, folder / "context", folder) as image:
        yield image


@pytest.fixture
def volumes(image: Image, tmp_path: Path) -> dict[str, Path]:
    """A folder for each volume, as the image's own has its owner and its mode."""
    made = {}
    for volume in image.volumes:
        inside = (image.root / volume.lstrip("/")).stat()
        made[volume] = tmp_path / Path(volume).name
        made[volume].mkdir()
        os.chown(made[volume], inside.st_uid, inside.st_gid)
        made[volume].chmod(inside.st_mode & 0o7777)
    return made


def started(image: Image, volumes: dict[str, Path], command: list[str]) -> list[str]:
    """The words that run a command in the image as an engine runs its entrypoint."""
    user, _, group = image.user.partition(":")
    as_user = ["/usr/bin/setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups", "--bounding-set=-all"]
    return in_container(
        image.root,
        [*as_user, "--no-new-privs", "--", *command],
        "--read-only",
        "--pipe",
        "--private-network",
        f"--chdir={image.folder}",
        *(f"--bind={host}:{inside}" for inside, host in volumes.items()),
        *(f"--setenv={name}={value}" for name, value in image.environment.items()),
    )


class Container:
    """A running container.

    Attributes:
        process: systemd-nspawn's.
    """

    def __init__(self, process: subprocess.Popen[bytes], image: Image) -> None:
        self.process = process
        self._image = image

    def first(self) -> int:
        """The number that its process 1 has here; 0 while there is none."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        for child in map(int, children):
            if b"modelwarden" in Path(f"/proc/{child}/cmdline").read_bytes().partition(b"--no-new-privs")[0]:
                return child
        return 0

    def exec(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in it, as an engine's `exec` does."""
        user, _, group = self._image.user.partition(":")
        enter = ["nsenter", f"--target={self.first()}", "--all", f"--setuid={user}", f"--setgid={group}"]
        return subprocess.run(
            [*enter, f"--wdns={self._image.folder}", "--", *command],
            env=self._image.environment,
            capture_output=True,
            encoding="utf-8",
            timeout=60,
            check=False,
        )


@contextmanager
def running(image: Image, volumes: dict[str, Path], log: Path) -> Iterator[Container]:
    """The image's own command, until the end of the test."""
    command = started(image, volumes, [*image.entrypoint, *image.arguments])
    with log.open("ab") as stream:
        process = subprocess.Popen(
            [*DIES_WITH_US, *command],
            env=os.environ | {"SYSTEMD_NSPAWN_TMPFS_TMP": "0"},
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
        )
    try:
        container = Container(process, image)
        until(lambda: process.poll() is not None or container.first(), "its first process", 60)
        assert process.poll() is None, log.read_text()
        yield container
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def test_image_is_no_roots_and_has_no_tools(image: Image) -> None:
    """The user is a number; what built it stayed behind."""
    assert image.user == f"{OWNER}:{OWNER}"
    assert not (image.root / "src").exists()
    assert not list((image.root / "opt/modelwarden/bin").glob("pip*"))
    assert image.entrypoint[0].startswith("/opt/modelwarden/bin/")
    for volume in image.volumes:
        assert (image.root / volume.lstrip("/")).stat().st_uid == OWNER


def test_container_archives_and_is_healthy(image: Image, volumes: dict[str, Path], tmp_path: Path) -> None:
    """On a read-only root, as nobody; the health check says 0 while all is well, and the stop is an orderly one."""
    log = tmp_path / "log"
    with running(image, volumes, log) as container:
        until(lambda: "ready" in log.read_text() or container.process.poll() is not None, "the start", 60)
        data = encoded(flat_summary({"AAPL": GOOD, "MSFT": BAD}))
        (volumes["/srv/modelwarden/incoming"] / "x.json").write_bytes(data)
        archive = volumes["/srv/modelwarden/archives"]
        until(lambda: index_of(archive), f"the run\n{log.read_text()}", 60)
        health = container.exec(*image.healthcheck)
        assert (health.returncode, health.stderr) == (0, ""), health.stdout
        assert "1 run" in health.stdout
        for path in ("/x", "/tmp/x", "/opt/modelwarden/x", "/etc/modelwarden/x"):
            assert container.exec("/usr/bin/touch", path).returncode != 0, path
        first = container.first()
        status = Path(f"/proc/{first}/status").read_text()
        assert f"Uid:\t{OWNER}\t{OWNER}\t{OWNER}\t{OWNER}" in status
        assert "CapEff:\t0000000000000000" in status
        os.kill(first, signal.SIGTERM)
        assert container.process.wait(60) == 0, log.read_text()
    owners = {path.stat().st_uid for path in archive.rglob("*")}
    assert owners == {OWNER}


def test_container_that_does_not_work_is_not_healthy(image: Image, volumes: dict[str, Path]) -> None:
    """Exit code 1: an engine takes no other."""
    done = subprocess.run(started(image, volumes, [*image.healthcheck]), capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert "not running" in done.stdout


def test_containers_settings_are_replaced_by_a_mount(image: Image, volumes: dict[str, Path], tmp_path: Path) -> None:
    """`config check` in the image, with other settings in the place of its own."""
    config = tmp_path / "config.toml"
    config.write_text((image.root / "etc/modelwarden/config.toml").read_text() + '\n[log]\nlevel = "debug"\n')
    mounted = {**volumes, "/etc/modelwarden/config.toml": config}
    done = subprocess.run(
        started(image, mounted, [*image.entrypoint, "config", "show"]), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, shlex.join(done.args) + done.stderr
    assert 'level = "debug"' in done.stdout
