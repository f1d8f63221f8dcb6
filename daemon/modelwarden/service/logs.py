"""How events are written: JSON lines for machines, colours for a person at a terminal.

The rule: events go to standard error; standard output belongs to what a command was asked for.
"""

import logging
import sys
import warnings
from typing import Final

import structlog

from modelwarden.events import LOGGER_NAME

LONGEST_WARNING: Final = 500
"""Characters kept of a warning: some quote everything that they are about."""


def configure_logs(level: str = "info", format: str = "auto") -> None:  # noqa: A002 - the setting's name
    """Write this process's events to standard error. `auto` is colours on a terminal and JSON lines elsewhere."""
    terminal = sys.stderr.isatty()
    as_json = format == "json" or (format == "auto" and not terminal)
    renderers: list[structlog.typing.Processor] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(ensure_ascii=False)]
        if as_json
        else [
            structlog.dev.ConsoleRenderer(
                colors=terminal,
                pad_event_to=0,
                pad_level=False,
                sort_keys=False,  # the keys stand in the order of their worth
                exception_formatter=structlog.dev.plain_traceback,  # the default one prints local variables: secrets
            )
        ]
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[
                structlog.stdlib.add_log_level,
                structlog.stdlib.ExtraAdder(),
                structlog.processors.TimeStamper(fmt="iso" if as_json else "%H:%M:%S", utc=as_json),
                _name_warnings,
            ],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers],
        )
    )
    # watchdog warns of every folder that it comes upon twice, and quotes all that it watches.
    warnings.filterwarnings("ignore", message="Callback with id", category=RuntimeWarning)
    logging.captureWarnings(capture=True)  # Python's own warnings are events too
    for name in (LOGGER_NAME, "py.warnings"):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(level.upper())
        logger.propagate = False


def _name_warnings(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Python's own warnings come as prose: they become the key of an event."""
    record = event.get("_record")
    if record is not None and record.name == "py.warnings":
        event["warning"] = event["event"].strip()[:LONGEST_WARNING]
        event["event"] = "python_warning"
    return event


def use_utf8() -> None:
    """Write UTF-8 to standard output and error whatever the locale: symbols hold any character."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
