"""What is said of a rejected file that a trainer may have written by itself.

The rule: a format is only ever suggested. What a file is read as stands in the settings.
"""

from modelwarden.errors import Problem, RejectSummary
from modelwarden.formats.shelf import presets
from modelwarden.gate.foreign import Foreign
from modelwarden.gate.json_object import NotJson

_NAMED = 3


def suggest_format(path: str, error: RejectSummary) -> None:
    """Add to why a file is no summary which formats have files of its name, if it is nothing that was meant as one."""
    is_other = isinstance(error, NotJson | Foreign) or error.what.startswith("no models")
    if not is_other or "format = " in error.what:
        return
    try:
        known = presets()
    except (OSError, ValueError):  # the disk refuses, or another version lies there by now: a suggestion is no must
        return
    names = [f'"{name}"' for name, format_ in known.items() if format_.takes(path)][:_NAMED]
    if names:
        hint = f"set format = {' or '.join(names)} in its [[watch]]"
        error.problems = (*error.problems, Problem("a trainer may have written it by itself", hint=hint))
