"""How events are written: JSON lines for machines, colours for a person at a terminal.

The rule: events go to standard error; standard output belongs to what a command was asked for.
"""

import logging
import sys

import structlog

from modelwarden.events import LOGGER_NAME


def configure_logs(level: str = "info", format: str = "auto") -> None:  # noqa: A002 - the setting's name
    """Write this process's events to standard error. `auto` is colours on a terminal and JSON lines elsewhere."""
    terminal = sys.stderr.isatty()
    as_json = format == "json" or (format == "auto" and not terminal)
    renderers: list[structlog.typing.Processor] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(ensure_ascii=False)]
        if as_json
        else [structlog.dev.ConsoleRenderer(colors=terminal)]
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[
                structlog.stdlib.add_log_level,
                structlog.stdlib.ExtraAdder(),
                structlog.processors.TimeStamper(fmt="iso", utc=True),
            ],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers],
        )
    )
    logger = logging.getLogger(LOGGER_NAME)
    logger.handlers = [handler]
    logger.setLevel(level.upper())
    logger.propagate = False


def use_utf8() -> None:
    """Write UTF-8 to standard output and error whatever the locale: symbols hold any character."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
