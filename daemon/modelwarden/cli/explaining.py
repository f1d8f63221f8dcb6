"""`explain`: what a class, a flag or a metric means, its bounds, and where they come from.

The rule: it answers for the settings that count here, not for what some run was judged by.
"""

import difflib
from typing import Annotated

import typer

from modelwarden.cli.answers import print_answer
from modelwarden.cli.lines import wrapped
from modelwarden.cli.meanings import Meaning, meanings
from modelwarden.cli.options import Config, Json
from modelwarden.cli.screen import paged, styled, visible, width
from modelwarden.cli.tables import print_table
from modelwarden.config import load_settings
from modelwarden.errors import StopService
from modelwarden.filesystems import show_path
from modelwarden.gate.policy import DEFAULT_NAME, Policy


def explain(
    word: Annotated[
        str | None,
        typer.Argument(metavar="FLAG|METRIC", help="All words if none is named.", show_default=False),
    ] = None,
    policy: Annotated[
        str | None, typer.Option("--policy", metavar="NAME", help="Of this policy.", show_default=False)
    ] = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Say what a class, a flag or a metric means.

    Its bounds as well, and where they come from.

    Example: modelwarden explain FITNESS_DECLINE
    """
    settings, path = load_settings(config)
    known = settings.policies()
    if policy is not None and policy not in known:
        raise StopService(
            f"there is no policy {policy!r}", where="--policy", hint=f"the settings have {', '.join(known)}"
        )
    chosen = [known[policy]] if policy is not None else [*known.values()]
    found = [(each, judge) for judge in chosen for each in meanings(judge) if word is None or _is(each, word)]
    if policy is None:  # the first policy that has the word explains it: the default one
        found = [*{each.name: (each, judge) for each, judge in reversed(found)}.values()][::-1]
    if not found and word is not None:
        names = [*dict.fromkeys(each.name for judge in chosen for each in meanings(judge))]
        close = difflib.get_close_matches(word.upper(), names, 3, 0.5) or difflib.get_close_matches(word, names, 3, 0.5)
        hint = f"did you mean {' or '.join(close)}?" if close else "`modelwarden explain` lists them"
        raise StopService(f"nothing is called {word!r}", where="explain", hint=hint)
    source = show_path(path) if path else "defaults and the environment"
    if as_json:
        print_answer(
            words=[
                each._asdict() | {"policy": judge.id, "policy_name": judge.name, "settings": source}
                for each, judge in found
            ]
        )
        return
    with paged():
        if word is None:
            print_table(("word", "kind", "meaning"), ((each.name, each.kind, each.text) for each, _ in found))
            return
        for each, judge in found:
            _print(each, judge, source)


def _is(meaning: Meaning, word: str) -> bool:
    return word.lower() in {meaning.name.lower(), meaning.name.lower().replace("_", " ")}


def _print(meaning: Meaning, policy: Policy, source: str) -> None:
    wide = min(width(), 100)
    typer.echo(f"{styled(visible(meaning.name), 'bold')} ({meaning.kind})")
    for line in wrapped(meaning.text, wide - 2):
        typer.echo(f"  {line}")
    rows = [("bound", each) for each in meaning.bounds]
    rows += [("figures", meaning.source)] if meaning.source else []
    if meaning.bounds:
        named = "" if policy.name == DEFAULT_NAME else f" ({policy.name})"
        rows.append(("policy", f"{policy.id}{named}, from {source}"))
    before = ""
    for name, text in rows:
        for number, line in enumerate(wrapped(visible(text), wide - 10)):
            typer.echo(f"  {name if name != before and not number else '':<8}{line}")
        before = name
