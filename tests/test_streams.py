"""Standard output and error carry UTF-8, whatever the locale is."""

import subprocess
import sys

from processes import clean_environment

PROGRAM = r"""
import sys
from modelwarden.streams import use_utf8
use_utf8()
print("MÜ\U0001f680 \udcff")
print("é", file=sys.stderr)
"""


def test_streams_of_an_ascii_locale_carry_utf_8() -> None:
    """Symbols hold any character; a byte that is no text is shown by its number, and ends no command."""
    ascii_only = {"PYTHONIOENCODING": "ascii:strict", "LC_ALL": "C"}

    done = subprocess.run(
        [sys.executable, "-P", "-c", PROGRAM], env=clean_environment(ascii_only), capture_output=True, check=True
    )

    assert done.stdout.decode("utf-8") == "MÜ\U0001f680 \\udcff\n"
    assert done.stderr.decode("utf-8") == "é\n"


def test_stream_that_is_closed_takes_all_and_keeps_nothing() -> None:
    """Who starts it without standard output asks for the exit code alone; the next file gets another descriptor."""
    program = (
        "from modelwarden.streams import use_utf8\nuse_utf8()\nimport sys\n"
        "print('said to nobody')\nassert sys.stdout.fileno() == 1\nassert open('/dev/null').fileno() > 2"
    )

    done = subprocess.run(
        ["sh", "-c", 'exec "$@" >&-', "sh", sys.executable, "-P", "-c", program],
        env=clean_environment(),
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")
