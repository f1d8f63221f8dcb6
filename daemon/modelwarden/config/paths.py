"""What a path in the settings may be.

The rule: a path ends up in messages, so what looks like a secret is none; and it means what it says: nothing in it is
replaced but a leading ~.
"""

import os
import re
from typing import Final

from modelwarden.config.telling import is_issued_token, looks_secret

_VARIABLE: Final = re.compile(r"\$(\w+|\{\w+\})")
_HOME: Final = re.compile(r"~[\w.-]{0,32}")


def checked_path(value: str) -> str:
    """The path, with ~ replaced by the home folder. Raises ValueError, which says what is wrong with it."""
    if "://" in value:
        raise ValueError("this is a URL, not a path: a destination's URL is written as url")
    if is_issued_token(value):
        raise ValueError("this is a token, not a path: only url may hold a secret")
    if looks_secret(value) and not value.startswith(("/", "./", "../", "~")):
        raise ValueError("this looks like a token, not a path: if it is a folder's name, write ./ in front")
    if "\0" in value:
        raise ValueError("a path can't hold a zero byte")
    if _VARIABLE.search(value):
        raise ValueError("variables such as $HOME are not replaced: write the path itself; ~ is the home folder")
    if value.startswith("~"):
        at_home = os.path.expanduser(value)
        if at_home.startswith("~"):
            user = found[0] if (found := _HOME.match(value)) and not looks_secret(found[0]) else "the user after ~"
            raise ValueError(f"the home folder of {user} is not known")
        return os.path.normpath(at_home)
    return value
