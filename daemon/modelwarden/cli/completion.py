"""What completes a half typed word: names of runs, symbols, flags and metrics.

The rule: whoever completes is in the middle of typing, so nothing is ever said: what can't be told completes nothing.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

import typer

_MOST: Final = 200
"""A shell shows no more, and a person reads fewer."""


def complete_run(context: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """The runs whose names begin so, the youngest first, each with the trainer's name for it; and `latest`."""
    found = [("latest", "the run that was archived last")] if "latest".startswith(incomplete) else []
    with suppress(Exception), _questions(context) as questions:
        found += [(name, called) for name, called in questions.names() if name.startswith(incomplete)]
    return found[:_MOST]


def complete_symbol(context: typer.Context, incomplete: str) -> list[str]:
    """The symbols that begin so: of the run that was named, else of any."""
    with suppress(Exception), _questions(context) as questions:
        return [symbol for symbol in _symbols(context, questions) if symbol.startswith(incomplete)][:_MOST]
    return []


def _symbols(context: typer.Context, questions: Any) -> list[str]:
    import time  # noqa: PLC0415 - only to complete

    if isinstance(run := context.params.get("run"), str):
        now = time.time()
        return [model.symbol for model in questions.run(questions.find(run, now), now).models]
    return list(questions.symbols())


def complete_run_name(context: typer.Context, incomplete: str) -> list[str]:
    """The trainer's names for runs that begin so."""
    with suppress(Exception), _questions(context) as questions:
        called = dict.fromkeys(called for _, called in questions.names() if called)
        return [each for each in called if each.startswith(incomplete)][:_MOST]
    return []


def complete_rejected(context: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """The rejected files whose ids begin so, each with the file's name."""
    with suppress(Exception):
        from modelwarden.archive.shelf import shelved  # noqa: PLC0415 - only to complete
        from modelwarden.cli.options import settings_for_asking  # noqa: PLC0415

        settings = settings_for_asking(context.params.get("config"), context.params.get("archive"))
        found = [(each.id, os.path.basename(each.path)) for each in shelved(settings.archive_dir)]
        return [each for each in found if each[0].startswith(incomplete)][:_MOST]
    return []


def complete_word(context: typer.Context, incomplete: str) -> list[str]:
    """The flags, metrics and classes that begin so."""
    with suppress(Exception):
        from modelwarden.cli.meanings import meanings  # noqa: PLC0415 - only to complete
        from modelwarden.config import load_settings  # noqa: PLC0415
        from modelwarden.wiring import policies_of  # noqa: PLC0415

        settings, _ = load_settings(context.params.get("config"))
        names = [each.name for policy in policies_of(settings).by_name.values() for each in meanings(policy)]
        return [name for name in dict.fromkeys(names) if name.startswith(incomplete)]
    return []


@contextmanager
def _questions(context: typer.Context) -> Iterator[Any]:
    """The questions of the archive that the words typed so far lead to."""
    from modelwarden.cli.options import settings_for_asking  # noqa: PLC0415 - only to complete
    from modelwarden.config.places import known_state_dir  # noqa: PLC0415
    from modelwarden.questions import asking  # noqa: PLC0415

    settings = settings_for_asking(context.params.get("config"), context.params.get("archive"))
    with asking(os.path.abspath(settings.archive_dir), known_state_dir(settings)) as questions:
        yield questions
