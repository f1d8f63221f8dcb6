"""What an installation as a service consists of: its files, where each belongs, what stands in each.

The rule: the texts are those of `systemd/` in the checkout, which the package carries; only the paths of this
installation are put in. Nothing is written here.
"""

import hashlib
import os
import re
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from importlib import resources
from typing import Final, NamedTuple

import modelwarden
from modelwarden.errors import StopService
from modelwarden.filesystems import show_path

UNITS: Final = (
    "modelwarden.service",
    "modelwarden-courier.service",
    "modelwarden@.service",
    "modelwarden-courier@.service",
)

PACKAGE_UNIT: Final = "/usr/lib/systemd/system/modelwarden.service"
"""Where a package of the distribution has it."""

_SHIPPED_COMMAND: Final = "/opt/modelwarden/bin/modelwarden"
_SHIPPED_USER_COMMAND: Final = "%h/.local/share/modelwarden/bin/modelwarden"
_SHIPPED_EXEC_PATHS: Final = "ExecPaths=/opt/modelwarden /usr /lib /lib64"
"""What the shipped texts have where an installation puts its own."""

_TROUBLESOME: Final = frozenset("\"'\\%$;")
"""Beside blanks, the characters that mean something to systemd in the lines that name a path."""

_HIDDEN: Final = {
    "/home": "ProtectHome=",
    "/root": "ProtectHome=",
    "/run/user": "ProtectHome=",
    "/tmp": "PrivateTmp=",  # noqa: S108 - a name, no file
    "/var/tmp": "PrivateTmp=",  # noqa: S108
}
"""Folders that the units don't see, by the line that hides them."""

_STAMP: Final = re.compile(rb"# modelwarden service install: sha256 ([0-9a-f]{64}) of the lines below\n")


class Program(NamedTuple):
    """This installation, as the service will find it.

    Attributes:
        command: the path of `modelwarden`.
        folders: what it runs from: the virtual environment and the interpreter's own.
        code: where its modules lie; another place than the first of `folders` for an editable install.
    """

    command: str
    folders: Sequence[str]
    code: str


class Piece(NamedTuple):
    """A file of the installation.

    Attributes:
        path: of the file, as the running system has it.
        text: what stands in it.
        mode: its mode if it is made.
        is_settings: whether it is a person's from the moment it is there.
    """

    path: str
    text: str
    mode: int = 0o644
    is_settings: bool = False

    @property
    def data(self) -> bytes:
        """What is written: the text, and above it a line by which a changed file is known."""
        data = self.text.encode()
        if self.is_settings:
            return data
        return b"# modelwarden service install: sha256 %s of the lines below\n" % _digest(data) + data


def is_untouched(data: bytes) -> bool:
    """Whether some version of modelwarden wrote these bytes, and nobody has changed them."""
    stamp = _STAMP.match(data)
    return stamp is not None and stamp[1] == _digest(data[stamp.end() :])


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).hexdigest().encode()


def this_program(prefix: str | None) -> Program:
    """This installation.

    Args:
        prefix: the folder below which a system is put together; what lies in it loses it.

    Raises:
        StopService: it has no command, or its path can't stand in a unit.
    """
    command = os.path.join(sysconfig.get_path("scripts"), "modelwarden")
    if not os.access(command, os.X_OK):
        hint = "install modelwarden into a virtual environment, and run the command from there"
        raise StopService("this installation has no command there", where=show_path(command), hint=hint)
    package = os.path.dirname(os.path.abspath(modelwarden.__file__))
    found = Program(
        _without(prefix, command),
        tuple(dict.fromkeys(_without(prefix, each) for each in (sys.prefix, sys.base_prefix))),
        _without(prefix, package),
    )
    for path in (found.command, *found.folders):
        if not path.isprintable() or _TROUBLESOME & {*path} or " " in path:
            hint = "install it under a path of letters, digits and -._ alone, such as /opt/modelwarden"
            raise StopService(
                "a unit can't name this path: it has a blank, or a character that means something to systemd",
                where=show_path(path),
                hint=hint,
            )
    return found


def hidden_by(program: Program) -> Iterator[str]:
    """Which parts of the installation the system's units could not see, and why."""
    for path in dict.fromkeys((program.command, *program.folders, program.code)):
        for folder, line in _HIDDEN.items():
            if _is_below(os.path.realpath(path), folder):
                yield f"{show_path(path)} is under {folder}, which {line} hides from the service"


def system_pieces(program: Program) -> list[Piece]:
    """The files of the system's service."""
    outside = [folder for folder in program.folders if not _is_below(folder, "/usr")]
    paths = {
        _SHIPPED_COMMAND: program.command,
        _SHIPPED_EXEC_PATHS: f"ExecPaths={' '.join([*outside, '/usr', '/lib', '/lib64'])}",
    }
    return [
        *(Piece(f"/etc/systemd/system/{name}", _shipped(name, paths)) for name in UNITS),
        Piece("/etc/sysusers.d/modelwarden.conf", _shipped("modelwarden.sysusers.conf")),
        Piece("/etc/tmpfiles.d/modelwarden.conf", _shipped("modelwarden.tmpfiles.conf")),
        # root's alone until systemd-tmpfiles gives it to the service's group.
        Piece("/etc/modelwarden/config.toml", _shipped("config.toml"), 0o600, is_settings=True),
    ]


def user_pieces(program: Program, config_home: str) -> list[Piece]:
    """The files of one user's service; `config_home` is $XDG_CONFIG_HOME or what stands for it."""
    example = resources.files("modelwarden").joinpath("config.example.toml").read_text(encoding="utf-8")
    unit = _shipped("user.service", {_SHIPPED_USER_COMMAND: program.command})
    return [
        Piece(os.path.join(config_home, "systemd", "user", "modelwarden.service"), unit),
        Piece(os.path.join(config_home, "modelwarden", "config.toml"), example, 0o600, is_settings=True),
    ]


def _shipped(name: str, paths: dict[str, str] | None = None) -> str:
    """A file of `systemd/`, with this installation's paths. Each must be there to be replaced."""
    text = resources.files("modelwarden").joinpath("units", name).read_text(encoding="utf-8")
    for shipped, path in (paths or {}).items():
        if shipped not in text:
            raise LookupError(f"{name} does not name {shipped}")
        text = text.replace(shipped, path)
    return text


def _without(prefix: str | None, path: str) -> str:
    """The path as it is once what lies below the prefix is the system's."""
    path = os.path.abspath(path)
    if prefix is not None:
        for folder in (os.path.abspath(prefix), os.path.realpath(prefix)):
            if folder != "/" and _is_below(path, folder):
                return path.removeprefix(folder) or "/"
    return path


def _is_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder}/")
