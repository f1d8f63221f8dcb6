"""Standard output and error.

The rule: they carry UTF-8 whatever the locale is, and are there although who started this closed them.
"""

import os
import sys


def use_utf8() -> None:
    """Write UTF-8 to standard output and error whatever the locale: symbols hold any character."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed: its descriptor must not be the next file's
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w", encoding="utf-8"))
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
