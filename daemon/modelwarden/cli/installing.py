"""`service install` and `service remove`: the files by which systemd knows modelwarden.

The rule: a file that a person changed is theirs: it is neither replaced nor removed unless they ask for it, and then a
copy stays. Settings, state and archive are never touched. Doing it twice is doing it once, so what was half done is
finished by the same command.
"""

import os
import shlex
import shutil
import stat
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from enum import Enum
from typing import Annotated, Final

import typer

from modelwarden.cli.answers import print_answer
from modelwarden.cli.options import Json
from modelwarden.cli.units import (
    PACKAGE_UNIT,
    Piece,
    Program,
    hidden_by,
    is_untouched,
    system_pieces,
    this_program,
    user_pieces,
)
from modelwarden.durable import make_folder, rename_over, sync_folder, write_new_file
from modelwarden.errors import ModelwardenError, StopService
from modelwarden.filesystems import show_path

LEFT_AS_IT_IS: Final = 1
"""Exit code if a file that somebody changed was left as it is."""

_BOOTED: Final = "/run/systemd/system"
"""There if systemd runs this machine (sd_booted(3))."""

_TOOLS: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Where systemd's tools are looked for after $PATH: a plain user's has no sbin."""

_SERVICES: Final = ("modelwarden.service", "modelwarden-courier.service")

service_commands = typer.Typer(
    help="""The systemd units: install them, remove them.

    Example: modelwarden service install --dry-run
    """,
    no_args_is_help=True,
)

Prefix = Annotated[
    str | None,
    typer.Option(
        "--prefix", metavar="DIR", help="Put all below DIR, as DESTDIR does; run nothing.", show_default=False
    ),
]
User = Annotated[bool, typer.Option("--user", help="For `systemctl --user`: no root needed.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]


class Standing(Enum):
    """What is at a file's place."""

    MISSING = "nothing"
    SAME = "what would be written"
    OLDER = "what another version wrote"
    CHANGED = "what a person changed, or made"


class _Work:
    """Does each step, or says that it would; says each in a line, or all of them at the end as data.

    Args:
        prefix: what stands before each path; None for the running system.
        is_try: whether nothing is to be done.
        as_json: whether it is told as data.

    Attributes:
        is_try: whether nothing is to be done.
        left: how many files were left, for they were changed.
        done: how many files were written or removed.
        next: what the person is to do, a command each, or a word about one.
    """

    def __init__(self, prefix: str | None, *, is_try: bool, as_json: bool) -> None:
        self._prefix = "" if prefix is None else prefix.rstrip("/")
        self.is_try = is_try
        self.left = 0
        self.done = 0
        self.next: Sequence[str] = ()
        self._as_json = as_json
        self._files: list[dict[str, str | None]] = []
        self._commands: list[dict[str, str | None]] = []
        self._unsaid: OSError | None = None

    def place(self, path: str) -> str:
        """Where a file of the system's lies here."""
        return self._prefix + path

    def say(self, did: str, would: str, path: str, remark: str = "") -> None:
        """What was done to a file."""
        self._files.append({"file": show_path(path), "outcome": did, "remark": remark or None})
        self._line(f"would {would}" if self.is_try else did, show_path(path), remark)

    def note(self, word: str, path: str, remark: str = "") -> None:
        """What became of a file that is not touched."""
        self._files.append({"file": show_path(path), "outcome": word, "remark": remark or None})
        self._line(word, show_path(path), remark)

    def _line(self, word: str, what: str, remark: str = "") -> None:
        width = len("would replace" if self.is_try else "unchanged")
        self.tell(f"{word:<{width}}  {what}{f': {remark}' if remark else ''}")

    def tell(self, line: str) -> None:
        """Print a line. If nobody reads it, the work is done all the same: half of it would be worse than silence."""
        if self._as_json:
            return
        try:
            typer.echo(line)
        except OSError as error:
            self._unsaid = self._unsaid or error

    def answer(self) -> None:
        """Print what was done up to now, if it is to be data. Raises OSError if that could not be printed."""
        if self._as_json:
            print_answer(
                dry_run=self.is_try,
                files=self._files,
                commands=self._commands,
                next=[" ".join(line.split()) for line in self.next],
            )

    def end(self) -> None:
        """Exit with 1 if a file was left as it is. Raises OSError if what was done could not be printed."""
        self.answer()
        if self._unsaid is not None:
            raise self._unsaid
        if self.left:
            raise typer.Exit(LEFT_AS_IT_IS)

    def write(self, piece: Piece, *, force: bool) -> None:
        """Put a file in its place, unless a person changed what is there."""
        path = self.place(piece.path)
        standing = standing_of(path, piece)
        if piece.is_settings and standing is not Standing.MISSING:
            self.note("kept", path, "settings are yours")
            return
        if standing is Standing.SAME:
            self.note("unchanged", path)
            return
        if standing is Standing.CHANGED and not force:
            self.left += 1
            self.note("left", path, "not as install wrote it; --force replaces it, and keeps a copy")
            return
        remark = ""
        if standing is Standing.CHANGED:
            copy = _free_name(path)
            remark = f"what was there is {show_path(copy)}"
            if not self.is_try:
                os.rename(path, copy)
        if not self.is_try:
            _put(path, piece)
        did, would = ("wrote", "write") if standing is Standing.MISSING else ("replaced", "replace")
        self.say(did, would, path, remark)
        self.done += 1

    def remove(self, piece: Piece, *, force: bool) -> None:
        """Take a file away, unless a person changed it."""
        path = self.place(piece.path)
        standing = standing_of(path, piece)
        if standing is Standing.MISSING:
            return
        if piece.is_settings:
            self.note("kept", path, "settings are yours")
            return
        remark = ""
        if standing is Standing.CHANGED:
            if not force:
                self.left += 1
                self.note("left", path, "not as install wrote it; --force removes it, and keeps a copy")
                return
            copy = _free_name(path)
            remark = f"a copy is {show_path(copy)}"
            if not self.is_try:
                os.rename(path, copy)
        elif not self.is_try:
            os.unlink(path)
        if not self.is_try and self._prefix:
            self._remove_empty(os.path.dirname(path))
        self.say("removed", "remove", path, remark)
        self.done += 1

    def _remove_empty(self, folder: str) -> None:
        """The folders that are empty now, up to the prefix."""
        with suppress(OSError):
            while folder.startswith(f"{self._prefix}/"):
                os.rmdir(folder)
                folder = os.path.dirname(folder)

    def run(self, *words: str) -> str:
        """Run one of systemd's tools; return what it complained of if it failed, else ""."""
        if not self.is_try:
            tool = shutil.which(words[0], path=f"{os.environ.get('PATH', '')}:{_TOOLS}")
            if tool is None:
                return f"there is no {words[0]}"
            done = subprocess.run(  # noqa: S603 - systemd's own tools, with words of ours
                [tool, *words[1:]],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                encoding="utf-8",
                errors="backslashreplace",
                check=False,
            )
            if done.returncode != 0:
                said = " ".join(done.stderr.split()) or f"exit code {done.returncode}"
                return f"`{shlex.join(words)}` failed: {said}"
        self._commands.append({"command": shlex.join(words), "outcome": "ran", "remark": None})
        self._line("would run" if self.is_try else "ran", shlex.join(words))
        return ""

    def pass_over(self, words: Sequence[str], failed: str, advice: str) -> None:
        """Say that one of systemd's tools failed, and that it does not matter now."""
        remark = f"{failed}: {advice}"
        self._commands.append({"command": shlex.join(words), "outcome": "not run", "remark": remark})
        self.tell(f"not run    {remark}")


@service_commands.command("install")
def install(
    prefix: Prefix = None,
    user: User = False,
    dry_run: DryRun = False,
    force: Annotated[bool, typer.Option("--force", help="Replace changed files, too; keep a copy of each.")] = False,
    as_json: Json = False,
) -> None:
    """Write the systemd units for this installation.

    The units, the account, the folders and settings to begin with; nothing is started. A second time nothing changes. A
    file that somebody changed is left, and the exit code is 1.

    Example: modelwarden service install --user --dry-run
    """
    work, program, pieces = _begin(prefix, user=user, dry_run=dry_run, as_json=as_json, installs=True)
    with _reporting(work):
        for piece in pieces:
            work.write(piece, force=force)
        if prefix is None:
            _make_known(work, user=user)
    if not work.done and not work.left:
        work.tell("nothing to do: all is as it must be")
    if work.done and not work.left and prefix is None:
        work.next = [*_next_steps(program, pieces[-1].path, user=user)]
        work.tell("next:")
        for line in work.next:
            work.tell(f"  {line}")
    work.end()


@service_commands.command("remove")
def remove(
    prefix: Prefix = None,
    user: User = False,
    dry_run: DryRun = False,
    force: Annotated[bool, typer.Option("--force", help="Remove changed files, too; keep a copy of each.")] = False,
    as_json: Json = False,
) -> None:
    """Stop the service and remove what install wrote.

    The archive, the state, the settings and the account that owns them stay. Say --prefix or --user as for install.
    Exit code 1 if a file that somebody changed was left.

    Example: modelwarden service remove --user --dry-run
    """
    work, _, pieces = _begin(prefix, user=user, dry_run=dry_run, as_json=as_json, installs=False)
    units = [piece for piece in pieces if piece.path.endswith(".service")]
    with _reporting(work):
        there = [each for each in units if standing_of(work.place(each.path), each) is not Standing.MISSING]
        if prefix is None and there:
            _disable(work, [os.path.basename(each.path) for each in there], user=user)
        for piece in pieces:
            work.remove(piece, force=force)
        if prefix is None and there:
            _reload(work, user=user)
    if not work.done and not work.left:
        work.tell("nothing to do: none of it is there")
    account = "" if user else ", the account modelwarden"
    work.tell(f"kept: the archive, the state, the settings{account}, and drop-ins; delete them yourself if you mean to")
    work.end()


def standing_of(path: str, piece: Piece) -> Standing:
    """What is at the place of a file. Raises OSError if it can't be seen, StopService if it is a folder."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return Standing.MISSING
    if stat.S_ISDIR(mode):
        raise StopService("a folder is in the place of a file", where=show_path(path), hint="move it away")
    if piece.is_settings or not stat.S_ISREG(mode):  # `systemctl mask` makes a link
        return Standing.CHANGED
    with open(path, "rb") as stream:
        found = stream.read()
    if found in {piece.data, piece.text.encode()}:
        return Standing.SAME
    return Standing.OLDER if is_untouched(found) else Standing.CHANGED


def _begin(
    prefix: str | None, *, user: bool, dry_run: bool, as_json: bool, installs: bool
) -> tuple[_Work, Program, Sequence[Piece]]:
    """What is to be done, once it is clear that it can be.

    Raises:
        StopService: it can't.
    """
    if prefix is not None and not os.path.isabs(prefix):
        raise StopService("must be an absolute path", where=f"--prefix {show_path(prefix)}", hint='such as "$PWD/root"')
    program = this_program(prefix)
    pieces = user_pieces(program, _config_home()) if user else system_pieces(program)
    if prefix is None and not user:
        _insist_on_system(dry_run=dry_run, installs=installs)
    if installs and not user and (hidden := next(hidden_by(program), None)) is not None:
        if prefix is None and not dry_run:
            hint = "install modelwarden under /opt, with an interpreter under /usr; or for one user alone: --user"
            raise StopService(hidden, hint=hint)
        typer.echo(f"modelwarden: {hidden}: these units will not start it", err=True)
    root = None if prefix is None else os.path.abspath(prefix)
    return _Work(root, is_try=dry_run, as_json=as_json), program, pieces


def _insist_on_system(*, dry_run: bool, installs: bool) -> None:
    if installs and os.path.lexists(PACKAGE_UNIT):
        hint = "change its units with `systemctl edit`, or remove the package first"
        raise StopService("a package has installed the units already", where=PACKAGE_UNIT, hint=hint)
    if dry_run:
        return
    if os.geteuid() != 0:
        hint = "run it as root; or with --user, --prefix DIR or --dry-run, which need no root"
        raise StopService("the system's units are root's", hint=hint)
    if not os.path.isdir(_BOOTED):
        hint = "`--prefix /` writes the files alone, for when it does"
        raise StopService("systemd does not run this machine", hint=hint)


def _config_home() -> str:
    """Where one user's settings lie (XDG Base Directory Specification: a relative path does not count)."""
    named = os.environ.get("XDG_CONFIG_HOME", "")
    home = named if os.path.isabs(named) else os.path.expanduser("~/.config")
    if not os.path.isabs(home):
        raise StopService("it is not known where your home is", hint="set HOME")
    return home


@contextmanager
def _reporting(work: _Work) -> Iterator[None]:
    """Files are readable to all who may reach them, and a refusal tells how far it came."""
    before = os.umask(0o022)
    try:
        yield
    except ModelwardenError as error:
        raise _half_done(work, error.what, error.where, error.__cause__) from None
    except OSError as error:
        raise _half_done(work, error.strerror or str(error), show_path(str(error.filename or "")), error) from None
    finally:
        os.umask(before)


def _half_done(work: _Work, what: str, where: str, cause: BaseException | None) -> StopService:
    rights = "run it as root; " if isinstance(cause, PermissionError) and os.geteuid() != 0 else ""
    is_begun = work.done and not work.is_try
    if is_begun:
        with suppress(OSError):  # what went wrong is said all the same
            work.answer()
    how_far = "half done: what is told is done, the rest is not" if is_begun else "nothing was changed"
    return StopService(what, where=where, hint=f"{how_far}; {rights}mend it and run this again")


def _put(path: str, piece: Piece) -> None:
    """Write a file under another name, then give it its own: systemd reads it whole or not at all."""
    folder = os.path.dirname(path)
    make_folder(folder)
    unfinished = os.path.join(folder, f".{os.path.basename(path)}.{os.getpid()}")
    try:
        write_new_file(unfinished, piece.data)
        os.chmod(unfinished, piece.mode)
        rename_over(unfinished, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(unfinished)
        raise
    sync_folder(folder)


def _free_name(path: str) -> str:
    """A name beside the file that nothing has, and that systemd does not read."""
    number, name = 1, f"{path}.bak"
    while os.path.lexists(name):
        number += 1
        name = f"{path}.bak{number}"
    return name


def _make_known(work: _Work, *, user: bool) -> None:
    """Make the account and the folders, and let systemd read the units."""
    if not user:
        for words in (("systemd-sysusers", "modelwarden.conf"), ("systemd-tmpfiles", "--create", "modelwarden.conf")):
            if failed := work.run(*words):
                raise StopService(failed)
    _reload(work, user=user)


def _reload(work: _Work, *, user: bool) -> None:
    words = ("systemctl", *(["--user"] if user else []), "daemon-reload")
    failed = work.run(*words)
    if failed and not user:
        raise StopService(failed)
    if failed:  # by `su`, or from cron: there is no manager to ask, or it is another's
        work.pass_over(words, failed, "run it once you are logged in")


def _disable(work: _Work, units: Sequence[str], *, user: bool) -> None:
    """Stop them all, instances too, and start none at the next boot."""
    how = ("systemctl", *(["--user"] if user else []))
    running = [each.replace("@.", "@*.") for each in units]
    # `disable` of a template is for all its instances; `stop` takes a pattern, and minds nothing that does not run.
    for words in (["stop", *running], ["disable", *units]):
        failed = work.run(*how, *words)
        if failed and not user:
            raise StopService(failed)
        if failed:
            work.pass_over((*how, *words), failed, "if it runs, stop it yourself")


def _next_steps(program: Program, settings: str, *, user: bool) -> Iterator[str]:
    yield f"edit {show_path(settings)}: the folders, and whom to tell; then"
    yield f"{program.command} config check {shlex.quote(settings)}"
    if user:
        yield "systemctl --user enable --now modelwarden     (restart, if it runs already)"
        yield "loginctl enable-linger     (it runs while you are not logged in)"
        return
    yield f"systemctl enable --now {' '.join(each.removesuffix('.service') for each in _SERVICES)}"
    yield "     (restart, if they run already)"
    yield "usermod -aG modelwarden-drop TRAINER     (may leave summaries in /srv/modelwarden/incoming)"
