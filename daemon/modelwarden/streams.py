"""Standard output and error.

The rule: they carry UTF-8 whatever the locale is.
"""

import sys


def use_utf8() -> None:
    """Write UTF-8 to standard output and error whatever the locale: symbols hold any character."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
