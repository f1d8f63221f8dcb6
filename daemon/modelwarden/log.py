"""The log every module writes to: lines with keys, over the standard library's logging.

The rule: a line is a name and keys, never prose. Used as a library modelwarden is as quiet as logging is by
default; the commands decide how lines look (service.logs).
"""

import logging
from typing import Final

import structlog

LOGGER_NAME: Final = "modelwarden"

logging.getLogger(LOGGER_NAME).addHandler(logging.NullHandler())

log: Final[structlog.stdlib.BoundLogger] = structlog.wrap_logger(
    logging.getLogger(LOGGER_NAME),
    wrapper_class=structlog.stdlib.BoundLogger,
    processors=[structlog.stdlib.filter_by_level, structlog.stdlib.render_to_log_kwargs],
)
"""Call `log.info("run_archived", run=..., approved=3)`."""
