"""How log lines are written: JSON lines for machines, colours for a person at a terminal, fields for the journal.

The rule: log lines go to standard error; standard output belongs to what a command was asked for.
"""

import logging
import os
import sys
import warnings
from collections.abc import Mapping
from typing import Final, TextIO

import structlog

from modelwarden.log import LOGGER_NAME
from modelwarden.service.journal import JournalHandler, writes_to_journal

LONGEST_WARNING: Final = 500
"""Characters kept of a warning: some quote everything that they are about."""


def speaks_to_a_person(format: str) -> bool:  # noqa: A002 - the setting's name
    """Whether standard error is read by a person: it is to be readable, or it is a terminal and need not be JSON."""
    return format == "console" or (format == "auto" and sys.stderr.isatty())


def shows_colours(environment: Mapping[str, str], *, terminal: bool) -> bool:
    """Whether readable lines have colours: on a terminal that can, unless NO_COLOR is set; FORCE_COLOR is for pipes."""
    if environment.get("NO_COLOR"):  # https://no-color.org: if it holds anything
        return False
    return bool(environment.get("FORCE_COLOR")) or (terminal and environment.get("TERM") not in {"dumb", "unknown"})


def configure_logs(level: str = "info", format: str = "auto") -> None:  # noqa: A002 - the setting's name
    """Write this process's log lines to standard error.

    Args:
        level: of the least that is written.
        format: "json" and "console" as they say; "auto" is readable on a terminal, goes to the systemd journal with
            priorities and fields if that is what standard error leads to, and is JSON lines elsewhere.
    """
    to_journal = format == "auto" and writes_to_journal(os.environ, sys.stderr)
    as_json = not (to_journal or speaks_to_a_person(format))
    renderers: list[structlog.typing.Processor] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(ensure_ascii=False)]
        if as_json
        else [
            structlog.dev.ConsoleRenderer(
                colors=shows_colours(os.environ, terminal=sys.stderr.isatty()),
                pad_event_to=0,
                pad_level=False,
                sort_keys=False,  # the keys stand in the order of their worth
                exception_formatter=structlog.dev.plain_traceback,  # the default one prints local variables: secrets
            )
        ]
    )
    level_name: list[structlog.typing.Processor] = [structlog.stdlib.add_log_level]
    moment: list[structlog.typing.Processor] = [
        structlog.processors.TimeStamper(fmt="iso" if as_json else "%H:%M:%S", utc=as_json)
    ]
    if to_journal:  # which keeps both as fields of its own
        level_name = moment = []
    handler: logging.Handler = _ToStandardError()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[
                *level_name,
                structlog.stdlib.ExtraAdder(),
                *moment,
                _name_warnings,
            ],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers],
        )
    )
    if to_journal:
        formatter, handler = handler.formatter, JournalHandler(fallback=handler)
        handler.setFormatter(formatter)
    # watchdog warns of every folder that it comes upon twice, and quotes all that it watches.
    warnings.filterwarnings("ignore", message="Callback with id", category=RuntimeWarning)
    logging.captureWarnings(capture=True)  # Python's own warnings are log lines too
    for name in (LOGGER_NAME, "py.warnings"):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(level.upper())
        logger.propagate = False


class _ToStandardError(logging.StreamHandler[TextIO]):
    """Writes to what standard error is at the moment: a bar that is shown there stands in for it meanwhile."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        return sys.stderr


def _name_warnings(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Python's own warnings come as prose: they become the key of a log line."""
    record = event.get("_record")
    if record is not None and record.name == "py.warnings":
        event["warning"] = event["event"].strip()[:LONGEST_WARNING]
        event["event"] = "python_warning"
    return event
