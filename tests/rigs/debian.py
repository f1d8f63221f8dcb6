"""A Debian 12 for a test to do anything to: its files, and commands that run in it, booted or not.

The rule: each is a copy; the bare system that they are copied from is made once a machine, and nobody changes it.
"""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from rigs.needs import needs

CHECKOUT: Final = Path(__file__).parents[2]
PACKAGES: Final = "systemd,systemd-sysv,dbus,libpam-systemd,python3,ca-certificates"
CACHE: Final = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "modelwarden-tests"
"""Where the bare systems are, made once a machine: a minute and 300 MB each."""

ENVIRONMENT: Final = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    **{name: value for name, value in os.environ.items() if name.startswith("PIP_") and "CERT" in name},
}
"""What commands there find: how to reach the package index, and nothing else of this machine's."""


@contextmanager
def debian(root: Path, *, checkout: bool = True, is_slim: bool = False) -> Iterator[Path]:
    """A Debian of its own, gone at the end.

    Args:
        root: a new folder for it.
        checkout: whether a copy of the checkout is in /src.
        is_slim: whether it is without systemd and Python, as an image to build on is.
    """
    needs(root=True, commands=("debootstrap", "systemd-nspawn"))
    bare = _bare_system("debian-12-slim", "ca-certificates") if is_slim else _bare_system("debian-12", PACKAGES)
    subprocess.run(["cp", "-a", "--reflink=auto", bare, root], check=True)
    try:
        if checkout:
            copy_checkout(root / "src")
        shutil.copy("/etc/resolv.conf", root / "etc" / "resolv.conf")
        if certificates := ENVIRONMENT.get("PIP_CERT"):
            target = root / certificates.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(certificates, target)
        yield root
    finally:
        shutil.rmtree(root)  # hundreds of MB, that nobody looks at


def copy_checkout(target: Path) -> None:
    """The checkout without what it is not made of."""
    left_out = shutil.ignore_patterns(".git", ".venv", ".*_cache", "__pycache__", ".hypothesis", ".coverage*")
    shutil.copytree(CHECKOUT, target, symlinks=True, ignore=left_out)


def in_container(root: Path, command: Sequence[str], *options: str) -> list[str]:
    """The words that run a command in that system, not booted, with the network of this machine.

    Args:
        root: its files.
        command: what is run, as process 1 unless --as-pid2 is among the options.
        options: more, for systemd-nspawn.
    """
    # Neither a scope nor a registration: neither is to be had in a container that itself is one.
    alone = ["--register=no", "--keep-unit", "--link-journal=no", "--quiet", "--resolv-conf=off"]
    variables = [f"--setenv={name}={value}" for name, value in ENVIRONMENT.items()]
    return ["systemd-nspawn", *alone, *variables, f"--directory={root}", *options, "--", *command]


def do_in(root: Path, script: str, *options: str, seconds: float = 600.0) -> str:
    """Run lines of shell in that system; what they print. Anything but exit code 0 fails the test."""
    done = subprocess.run(
        in_container(root, ["/bin/bash", "-euo", "pipefail", "-c", script], "--as-pid2", "--pipe", *options),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=seconds,
        check=False,
    )
    assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def _bare_system(name: str, packages: str) -> Path:
    """A Debian 12 that nothing was done to, made by debootstrap if this machine has none of that name yet."""
    place = CACHE / name
    if not place.exists():
        unfinished = place.with_name(f"{name}.{os.getpid()}.{time.monotonic_ns()}")
        (unfinished / "etc/dpkg/dpkg.cfg.d").mkdir(parents=True)
        (unfinished / "etc/dpkg/dpkg.cfg.d/unsynced").write_text("force-unsafe-io\n")  # as in Debian's own images
        subprocess.run(
            ["debootstrap", "--variant=minbase", f"--include={packages}", "bookworm", unfinished],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        (unfinished / "etc" / "machine-id").write_bytes(b"")
        unfinished.rename(place)
    return place
