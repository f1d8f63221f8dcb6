"""`regate`: what another policy would make of the whole archive.

The rule: it only counts. No run, no catalog and no message changes, and the gate itself judges.
"""

import os
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Annotated, Final, NamedTuple

import typer

from modelwarden.cli.answers import bounds_json, print_answer
from modelwarden.cli.lines import counted
from modelwarden.cli.options import Archive, Config, Json, asking_as_set
from modelwarden.cli.progress import shown
from modelwarden.cli.screen import is_terminal, paged, width
from modelwarden.cli.tables import BAND_STYLES, Cell, heading_of, print_sentence, print_table
from modelwarden.config import Settings, load_settings
from modelwarden.errors import StopService
from modelwarden.filesystems import show_path
from modelwarden.gate.assessment import CLASSIFICATIONS, Classification
from modelwarden.gate.gates import SEED_FLAGS
from modelwarden.gate.policy import DEFAULT_NAME, Policy
from modelwarden.gate.thresholds import BOUND_NAMES, FRACTIONS
from modelwarden.gate.what_if import Step, WhatIf, sweep, try_policy, with_bound
from modelwarden.wiring.policies import policies_of

NOTHING_CHANGES: Final = 1
"""Exit code if no model would change its class."""

MOST_STEPS: Final = 1000
SYMBOLS_SHOWN: Final = 50
BAR: Final = 24
"""Columns of a bar; half as many if a terminal has fewer than `_ROOMY`."""

_ROOMY: Final = 80

_SETTINGS: Final = {
    name: (metric, which)
    for metric, names in zip(SEED_FLAGS, BOUND_NAMES, strict=True)
    for name, which in zip(names, ("approve", "review"), strict=True)
}
"""What `[gate]` calls the bounds of the default policy."""

_SHARES: Final = {**dict(zip(FRACTIONS, ("decline", "oscillation"), strict=True)), "decline": "decline"} | {
    "oscillation": "oscillation"
}


class _Sweep(NamedTuple):
    """What is swept.

    Attributes:
        setting: as it was typed.
        metric: whose gate.
        which: of its bounds, approve or review.
        bounds: what is tried.
    """

    setting: str
    metric: str
    which: str
    bounds: Sequence[float]


def regate(
    policy: Annotated[
        str | None,
        typer.Option(
            "--policy",
            metavar="NAME",
            help="A policy of these settings, or a file with settings that have another.",
            show_default="the settings' default policy",
        ),
    ] = None,
    sets: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="BOUND",
            help="With another bound: approved_min_pf=2.0, or METRIC.approve=0.3. May be repeated.",
            show_default=False,
        ),
    ] = None,
    swept: Annotated[
        str | None,
        typer.Option(
            "--sweep",
            metavar="BOUNDS",
            help="Count along a bound, FROM:TO:STEP: approved_min_fitness=0.5:0.9:0.05.",
            show_default=False,
        ),
    ] = None,
    limit: Annotated[
        int, typer.Option("--limit", "-n", min=1, metavar="N", help="Most symbols that are listed.")
    ] = SYMBOLS_SHOWN,
    config: Config = None,
    archive: Archive = None,
    as_json: Json = False,
) -> None:
    """Say what another policy would make of the archive.

    Nothing is changed. How many models change class, which gate decides, and whose models they are; or, along a sweep,
    how many are in each class. Exit code 1 if no model would change.

    Example: modelwarden regate --set approved_min_pf=2.0

    Example: modelwarden regate --sweep approved_min_fitness=0.5:0.9:0.05
    """
    settings, _ = load_settings(config, archive=archive)
    tried = _policy(settings, policy)
    for each in sets or ():
        tried = _with_setting(tried, each)
    along = None if swept is None else _sweep_of(tried, swept)
    with asking_as_set(config, archive) as questions:
        if not as_json:
            _print_head(tried)  # at once: to judge an archive of years takes a while
        began = time.monotonic()
        count, models = questions.judged(tried)
        judged = shown(models, count, "judging again")
        if along is None:
            found = try_policy(judged, tried)
            seconds = time.monotonic() - began
            _tell(found, tried, limit, seconds, as_json=as_json)
            is_changed = found.changed > 0
        else:
            number, steps = sweep(judged, tried, along.metric, along.which, along.bounds)
            _tell_steps(number, steps, tried, along, as_json=as_json)
            is_changed = any(step.changed for step in steps)
    if not is_changed:
        raise typer.Exit(NOTHING_CHANGES)


def _policy(settings: Settings, named: str | None) -> Policy:
    """What is tried: the default policy of the settings, one of them by its name, or that of another file."""
    known = policies_of(settings).by_name
    if named is None:
        return known[DEFAULT_NAME]
    if named in known and not os.path.exists(named):
        return known[named]
    if not os.path.exists(named):
        hint = f"name a file, or one of {', '.join(known)}"
        raise StopService(f"there is no file and no policy {named!r}", where="--policy", hint=hint)
    there = policies_of(load_settings(named)[0]).by_name
    own = [each for name, each in there.items() if name != DEFAULT_NAME]
    if len(own) > 1:
        hint = f"leave one of {', '.join(each.name for each in own)}, or give that file as --config and name its policy"
        raise StopService(f"{show_path(named)} has {len(own)} policies", where="--policy", hint=hint)
    return own[0] if own else there[DEFAULT_NAME]


def _with_setting(policy: Policy, typed: str) -> Policy:
    """The policy with another bound. Raises StopService if it is none, or contradicts the others."""
    where = f"--set {typed!r}"
    name, _, value = typed.partition("=")
    bound = _number(value, where)
    try:
        if name in _SHARES:
            return replace(policy, decline=bound) if _SHARES[name] == "decline" else replace(policy, oscillation=bound)
        return with_bound(policy, *_gate_of(policy, name, where), bound)
    except ValueError as error:
        raise StopService(str(error), where=where) from None


def _gate_of(policy: Policy, name: str, where: str) -> tuple[str, str]:
    """Which metric's bound a setting is, and which of the two. Raises StopService if there is none of that name."""
    metric, which = _SETTINGS.get(name, ("", ""))
    if not metric:
        metric, _, which = name.rpartition(".")
    if metric in policy.metrics and which in {"approve", "review"}:
        return metric, which
    known = [setting for setting, (gate, _) in _SETTINGS.items() if gate in policy.metrics]
    known += [f"{each}.{bound}" for each in policy.metrics if each not in SEED_FLAGS for bound in ("approve", "review")]
    raise StopService(f'the policy "{policy.name}" has no {name!r}', where=where, hint=f"there are {', '.join(known)}")


def _number(text: str, where: str) -> float:
    try:
        return _finite(text)
    except (ValueError, ArithmeticError):
        raise StopService(f"{text!r} is no number", where=where, hint="write SETTING=VALUE, such as 2.0") from None


def _finite(text: str) -> float:
    if not re.fullmatch(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?", text):
        raise ValueError(text)
    value = float(text)
    if value in {float("inf"), float("-inf")}:
        raise ValueError(text)
    return value


def _sweep_of(policy: Policy, typed: str) -> _Sweep:
    where = f"--sweep {typed!r}"
    name, _, course = typed.partition("=")
    metric, which = _gate_of(policy, name, where)
    parts = course.split(":")
    hint = "write SETTING=FROM:TO:STEP, such as approved_min_fitness=0.5:0.9:0.05"
    try:
        for part in parts:
            _finite(part)
        first, last, step = (Decimal(part) for part in parts)
        count = int((last - first) / step) + 1  # a step of 0 divides by it
    except (ValueError, ArithmeticError):
        raise StopService("that is no sweep", where=where, hint=hint) from None
    if count < 1:
        raise StopService("the steps lead away from the end", where=where, hint=hint)
    if count > MOST_STEPS:
        raise StopService(f"{count} steps, more than {MOST_STEPS}", where=where, hint="take larger ones")
    return _Sweep(name, metric, which, [float(first + step * number) for number in range(count)])


def _tell(found: WhatIf, policy: Policy, limit: int, seconds: float, *, as_json: bool) -> None:
    symbols = sorted(found.symbols.items(), key=lambda each: (-each[1], each[0]))
    if as_json:
        print_answer(
            policy=policy.id,
            policy_name=policy.name,
            bounds=bounds_json(policy),
            assessments=found.assessments,
            foreign=found.foreign,
            changed=found.changed,
            before=_counts(found.before),
            after=_counts(found.after),
            moves=[{"from": was, "to": now, "count": count} for (was, now), count in _sorted_moves(found)],
            gates={metric: vars(count) for metric, count in found.gates.items()},
            symbols=[
                {"symbol": symbol, "from": was, "to": now, "runs": count} for (symbol, (was, now)), count in symbols
            ],
        )
        return
    with paged():
        rate = f" in {seconds:.1f} s" if is_terminal() else ""
        print_sentence(
            f"{counted(found.assessments - found.foreign, 'assessment')} judged again{rate}:"
            f" {counted(found.changed, 'changes class', 'change class')}"
        )
        if found.foreign:
            left_out = counted(found.foreign, "has none of its metrics and is", "have none of its metrics and are")
            typer.echo(f"{left_out} left out")
        typer.echo()
        print_table(
            ("class", "before", "after", "difference"),
            [
                (
                    Cell(each.value, BAND_STYLES[each]),
                    f"{found.before[each]:,}",
                    f"{found.after[each]:,}",
                    f"{found.after[each] - found.before[each]:+,}".replace("+0", "0"),
                )
                for each in CLASSIFICATIONS
            ],
            right=("before", "after", "difference"),
        )
        if found.moves:
            typer.echo()
            print_table(
                ("change", "models"),
                [
                    (Cell(f"{was} -> {now}", BAND_STYLES[now]), f"{count:,}")
                    for (was, now), count in _sorted_moves(found)
                ],
                right=("models",),
            )
        typer.echo()
        print_table(
            ("metric", "keeps in REVIEW", "keeps in DROP", "alone"),
            [
                (heading_of(gate), f"{each.review:,}", f"{each.drop:,}", f"{each.alone:,}")
                for gate in policy.gates
                for each in (found.gates[gate.metric],)
            ],
            right=("keeps in REVIEW", "keeps in DROP", "alone"),
        )
        if symbols:
            typer.echo()
            print_table(
                ("symbol", "class", "runs"),
                [
                    (symbol, Cell(f"{was} -> {now}", BAND_STYLES[now]), f"{count:,}")
                    for (symbol, (was, now)), count in symbols[:limit]
                ],
                right=("runs",),
            )
            if len(symbols) > limit:
                typer.echo(f"{len(symbols) - limit} more: --limit {len(symbols)} shows all")


def _sorted_moves(found: WhatIf) -> Sequence[tuple[tuple[Classification, Classification], int]]:
    return sorted(found.moves.items(), key=lambda each: tuple(map(CLASSIFICATIONS.index, each[0])))


def _counts(counts: Mapping[Classification, int]) -> Mapping[str, int]:
    return {each.value: counts.get(each, 0) for each in CLASSIFICATIONS}


def _print_head(policy: Policy) -> None:
    named = "" if policy.name == DEFAULT_NAME else f" ({policy.name})"
    print_sentence(f"policy {policy.id}{named}, tried on the whole archive; nothing is changed")


def _tell_steps(judged: int, steps: Sequence[Step], policy: Policy, along: _Sweep, *, as_json: bool) -> None:
    if as_json:
        print_answer(
            policy=policy.id,
            policy_name=policy.name,
            setting=along.setting,
            assessments=judged,
            steps=[
                {
                    "bound": step.bound,
                    "after": _counts(step.after),
                    "changed": step.changed,
                    "problem": step.problem or None,
                }
                for step in steps
            ],
        )
        return
    with paged():
        print_sentence(f"{counted(judged, 'assessment')}, {along.setting} along {counted(len(steps), 'value')}")
        typer.echo()
        at = policy.metrics.index(along.metric)
        own = getattr(policy.gates[at], along.which)
        print_table(
            ("bound", *(each.value for each in CLASSIFICATIONS), "change", "share of each class"),
            [
                (
                    Cell(f"{step.bound:g}", "bold" if step.bound == own else ""),
                    *(f"{step.after[each]:,}" if not step.problem else "-" for each in CLASSIFICATIONS),
                    f"{step.changed:,}" if not step.problem else "-",
                    step.problem or _bar(step.after),
                )
                for step in steps
            ],
            right=("bound", *(each.value for each in CLASSIFICATIONS), "change"),
        )


_BLOCKS: Final = dict(zip(CLASSIFICATIONS, "█▒·", strict=True))


def _bar(counts: Mapping[Classification, int]) -> str:
    """The classes' shares as one bar: full for APPROVED, half for REVIEW, dots for DROP."""
    total = sum(counts.values())
    if not total:
        return ""
    bar, seen, drawn = "", 0, 0
    columns = BAR if width() >= _ROOMY else BAR // 2
    for each in CLASSIFICATIONS:
        seen += counts.get(each, 0)
        until = round(seen * columns / total)
        bar += _BLOCKS[each] * (until - drawn)
        drawn = until
    return bar
