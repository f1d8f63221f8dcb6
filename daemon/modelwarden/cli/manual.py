"""`man`: the manual page modelwarden(1), made from the commands.

The rule: it is roff that every man program reads, in ASCII; a hyphen is written as a minus sign, so that what is
copied from the page can be typed.
"""

import os
import re
import textwrap
import time
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from typing import Final

import typer

from modelwarden.cli.tree import Argument, Command, Option, read_tree
from modelwarden.errors import StopService

EXIT_CODES: Final = (
    ("0", "all", "done; for `check`: every model is APPROVED"),
    ("1", "`check`", "not every model is APPROVED"),
    ("1", "`runs`, `show`, `approved`", "no run, or no model of the run, is what was asked for"),
    (
        "1",
        "`run --once`",
        "the archive was not there, a file was rejected, a folder could not be read, or a message is still owed",
    ),
    ("1", "`review`, `audit`", "nothing waits; the decision is in force already; nothing was decided"),
    ("1", "`rejected`, `prune`", "nothing was rejected; nothing is to be removed"),
    ("1", "`rejected retry`, `archive`", "a file is no summary, or could not be archived now"),
    ("1", "`regate`", "no model would change its class"),
    ("1", "`verify`", "something is wrong with the archive"),
    ("1", "`outbox`", "a message is dead"),
    ("1", "`doctor`", "something is not as the settings need it"),
    ("1", "`status`", "something needs a person"),
    ("1", "`outbox retry`, `outbox drop`, `notify-test`", "not all that was asked for could be done"),
    ("1", "`service install`, `service remove`", "a file that somebody changed was left as it is"),
    (
        "2",
        "all",
        (
            "wrong settings, arguments or input; a run or a symbol that is not there;"
            " an archive, a run or a state file that can't be used"
        ),
    ),
    ("3", "`status`", "the daemon is not running"),
    ("74", "all", "the output could not be written"),
    ("75", "`courier`", "a send hung: its parent, or systemd, starts another"),
    (
        "78",
        "`run` without `--once`, `courier`",
        "the settings are wrong, and another start would be of no use: the units' `RestartPreventExitStatus`",
    ),
)
"""Each exit code, of which commands, and when; as the reference has them."""

_ENVIRONMENT: Final = (
    ("MODELWARDEN_CONFIG", "The settings' file if there is no --config."),
    (
        "MODELWARDEN_NAME, MODELWARDEN_TABLE__NAME",
        "A setting, such as MODELWARDEN_LOG__LEVEL; a list or a table is JSON. It outranks the file.",
    ),
    ("CREDENTIALS_DIRECTORY", "Where url_credential and secret_credential are read; systemd sets it."),
    ("NO_COLOR, FORCE_COLOR", "Whether the log at a terminal has colours; NO_COLOR, whether answers have."),
    ("PAGER, LESS", "What a long answer at a terminal goes through, less or more if none is named; and its options."),
    ("SUDO_USER", "Who decides, for `review` without --by behind sudo."),
    ("XDG_CONFIG_HOME", "Where `service install --user` writes; ~/.config if it is not set."),
    ("NOTIFY_SOCKET, WATCHDOG_USEC, JOURNAL_STREAM", "How the services speak to systemd, which sets them."),
)

_FILES: Final = (
    ("/etc/modelwarden/config.toml", "The settings if neither --config nor the environment names others."),
    ("/etc/modelwarden/credentials/", "Secrets for LoadCredential=, root's alone."),
    ("/srv/modelwarden/incoming/", "Where trainers leave summaries, as the service is installed."),
    ("/srv/modelwarden/archives/", "The archive of the service: a folder for each run, and index.json."),
    ("/var/lib/modelwarden/", "Its state: ledger, catalog, outbox."),
    ("~/.config/modelwarden/config.toml", "The settings of `service install --user`."),
    ("rejected/", "In the archive: files that were no summary, each with its reason."),
    (".state/", "In the archive: the state, unless the settings name another place."),
)

_EXAMPLES: Final = (
    ("Watch a folder, without any settings:", "modelwarden run --watch training_output"),
    ("Settings to begin with:", "modelwarden config example > config.toml"),
    ("What may be deployed of the last run, for a script:", "modelwarden approved | cat"),
)

_SEE_ALSO: Final = (("systemctl", 1), ("journalctl", 1), ("systemd-creds", 1), ("systemd.exec", 5))

WIDTH: Final = 79
"""Of the source's lines; what reads them makes its own."""

_SPECIAL: Final = {"\\": r"\e", "-": r"\-", "'": r"\(aq", "`": r"\(ga", "^": r"\(ha", "~": r"\(ti", '"': r"\(dq"}
_CODE: Final = re.compile(r"`([^`]+)`|(?<![\w-])(--?[a-z][a-z-]*)")
_SENTENCE: Final = re.compile(r"(?<=[.!?]) +(?=[A-Z`])")


def man(context: typer.Context) -> None:
    """Print the manual page.

    To install it: into man1, as modelwarden.1.

    Example: modelwarden man | man -l -
    """
    tree = read_tree(context.find_root().command)
    try:
        moment = time.gmtime(int(os.environ.get("SOURCE_DATE_EPOCH", "") or time.time()))
    except (ValueError, OverflowError, OSError):
        raise StopService("is no number of seconds", where="SOURCE_DATE_EPOCH") from None
    for line in page(tree, version("modelwarden"), time.strftime("%Y-%m-%d", moment)):
        typer.echo(line)


def page(tree: Command, release: str, date: str) -> Iterator[str]:
    """The page's lines.

    Args:
        tree: all commands.
        release: modelwarden's version.
        date: of the page, such as 2026-01-31.
    """
    yield f'.TH MODELWARDEN 1 {date} "modelwarden {escaped(release)}" "User Commands"'
    yield ".SH NAME"
    yield r"modelwarden \- judge, archive and announce what training runs leave behind"
    yield ".SH SYNOPSIS"
    yield ".B modelwarden"
    yield r"\fICOMMAND\fR [\fIOPTION\fR]... [\fIARGUMENT\fR]..."
    yield ".SH DESCRIPTION"
    yield from _prose(tree.summary)
    yield ".PP"
    yield from _prose(
        "A trainer leaves a JSON file, a summary, in a watched folder. Every model in it is APPROVED, REVIEW or DROP "
        "by fixed thresholds that must all hold; the run is archived whole or not at all, and the team is told."
    )
    yield ".SH OPTIONS"
    yield from _options([*tree.options, Option(("--help", "-h"), "", "Print what a command does and exit.")])
    yield ".SH COMMANDS"
    for command in tree.all():
        if command.words:
            yield from _command(command)
    yield from _sections()


def _command(command: Command) -> Iterator[str]:
    yield f".SS {escaped(' '.join(command.words))}"
    yield f".B modelwarden {escaped(' '.join(command.words))}"
    usage = [*(["[OPTION]..."] if command.options else []), *map(str, command.arguments)]
    usage += ["COMMAND"] if command.commands and not command.options else []
    if usage:
        yield rf"\fI{escaped(' '.join(usage))}\fR"
    for paragraph in (command.summary, *command.text):
        yield ".PP"
        yield from _prose(paragraph)
    yield from _arguments(command.arguments)
    yield from _options(command.options)


def _arguments(arguments: Sequence[Argument]) -> Iterator[str]:
    for each in arguments:
        if each.help:
            yield ".TP"
            yield rf"\fI{escaped(each.value)}\fR"
            yield from _prose(each.help)


def _options(options: Sequence[Option]) -> Iterator[str]:
    for each in options:
        yield ".TP"
        names = ", ".join(rf"\fB{escaped(name)}\fR" for name in each.names)
        yield names + (rf" \fI{escaped(each.value)}\fR" if each.value else "")
        yield from _prose(each.help)


def _sections() -> Iterator[str]:
    yield '.SH "EXIT STATUS"'
    for code, commands, when in EXIT_CODES:
        yield ".TP"
        yield rf"\fB{code}\fR {_marked(f'({commands})' if commands != 'all' else '')}".rstrip()
        yield from _prose(f"{when[0].upper()}{when[1:]}.")
    for heading, rows in (("ENVIRONMENT", _ENVIRONMENT), ("FILES", _FILES)):
        yield f".SH {heading}"
        for name, what in rows:
            yield ".TP"
            yield rf"\fI{escaped(name)}\fR"
            yield from _prose(what)
    yield ".SH EXAMPLES"
    for at, (what, typed) in enumerate(_EXAMPLES):
        yield from (".PP",) if at else ()
        yield from _prose(what)
        yield from (".PP", ".RS 4", ".EX", escaped(typed), ".EE", ".RE")
    yield '.SH "SEE ALSO"'
    last = len(_SEE_ALSO) - 1
    for at, (name, section) in enumerate(_SEE_ALSO):
        yield f".BR {escaped(name)} ({section})" + ("," if at < last else "")


def _prose(text: str) -> Iterator[str]:
    """A paragraph, each sentence on lines of its own, as man(7) wants it."""
    for sentence in _SENTENCE.split(text):
        for line in textwrap.wrap(_marked(sentence), WIDTH, break_long_words=False, break_on_hyphens=False):
            yield rf"\&{line}" if line.startswith(".") else line


def _marked(text: str) -> str:
    """What is code, in backquotes or an option, is bold."""
    parts, end = [], 0
    for found in _CODE.finditer(text):
        parts += [escaped(text[end : found.start()]), rf"\fB{escaped(found[1] or found[2])}\fR"]
        end = found.end()
    return "".join([*parts, escaped(text[end:])])


def escaped(text: str) -> str:
    """The text as roff prints it, in ASCII, but for a point at the beginning of a line."""
    return "".join(_SPECIAL.get(each) or (each if each.isascii() else rf"\[u{ord(each):04X}]") for each in text)
