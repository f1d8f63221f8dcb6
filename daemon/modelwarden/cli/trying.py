"""What would come of a trainer's file: `formats try`.

The rule: a file is tried with the daemon's own code: what is shown is what would be judged.
"""

import os
from collections.abc import Mapping
from typing import Any

from modelwarden.cli.answers import print_answer
from modelwarden.cli.formats import named_format
from modelwarden.cli.judging import ALL_APPROVED, BAD_INPUT, print_outcome, read_file
from modelwarden.cli.lines import complain, counted
from modelwarden.cli.tables import print_table
from modelwarden.config import Settings, load_settings
from modelwarden.errors import RejectSummary, StopService
from modelwarden.filesystems import show_path
from modelwarden.formats.normalising import NotFinal
from modelwarden.formats.sandbox import missing_extra
from modelwarden.gate.gating import assess_summary
from modelwarden.gate.json_object import read_object
from modelwarden.gate.policy import DEFAULT_NAME, Policy
from modelwarden.gate.summary import parse_summary
from modelwarden.pipeline.policies import JudgedFolder, Policies
from modelwarden.pipeline.trainers import translate_file, translate_whole
from modelwarden.wiring.policies import policies_of


def try_format(name: str, file: str, policy: str | None, config: str | None, *, as_json: bool) -> int:
    """Show what a format reads in a file, and with a policy what it judges; return the exit code."""
    settings, _ = load_settings(config)
    format_ = named_format(settings, name)
    if missing := missing_extra():
        hint = 'pip install "modelwarden[formats]"'
        raise StopService(f"{', '.join(missing)} is not installed", where="formats", hint=hint)
    path = os.path.abspath(file)
    folder = JudgedFolder(os.path.dirname(os.path.dirname(path)), format_.names, policy or DEFAULT_NAME, format_)
    judging = None if policy is None else _policy(policies_of(settings), policy, folder)
    try:
        is_final, summary = _summary(path, folder, judging, settings)
        outcome = None if judging is None else assess_summary(parse_summary(summary, judging), judging)
    except RejectSummary as error:
        for line in str(error).splitlines():
            complain(f"modelwarden: {show_path(file)}: {line}")
        return BAD_INPUT
    if not format_.takes(path):
        taken = ", ".join(format_.files)
        complain(f"modelwarden: {show_path(file)}: {name} takes {taken}: set patterns to take this too")
    if not is_final:
        complain(f"modelwarden: {show_path(file)}: the training goes on: it would not be judged yet")
    if judging is None or outcome is None:
        document = read_object(summary)
        if as_json:
            print_answer(file=show_path(file), format=name, is_final=is_final, summary=document)
        else:
            _print_summary(document)
        return ALL_APPROVED
    return print_outcome(file, outcome, judging, as_json=as_json)


def _summary(path: str, folder: JudgedFolder, judging: Policy | None, settings: Settings) -> tuple[bool, bytes]:
    """Whether the file says that its training ended, as far as its format asks, and the summary that it comes to."""
    most = settings.intake.max_bytes
    data = read_file(path, most)
    asks = folder.format is not None and any(each.complete for each in folder.format.conditions)
    is_final = True
    if asks:
        is_final = not isinstance(translate_file(path, data, folder, judging, most, if_complete=True), NotFinal)
    return is_final, translate_whole(path, data, folder, judging, most)


def _print_summary(document: Mapping[str, Any]) -> None:
    rows = []
    for model in document["models"]:
        for metric, points in model["metrics"].items():
            course = points if isinstance(points, list) else [points]
            count = counted(len(course), "point")
            rows.append((model["symbol"], metric, _shown(course[-1]), count))
    print_table(("symbol", "metric", "last", "course"), rows)


def _shown(figure: float | None) -> str:
    return "missing" if figure is None else f"{figure:.6g}"


def _policy(policies: Policies, name: str, folder: JudgedFolder) -> Policy:
    if name not in policies.by_name:
        known = ", ".join(policies.by_name)
        raise StopService(f"there is no policy {name!r}", where="--policy", hint=f"the settings have {known}")
    return Policies(policies.default, policies.others, (folder,)).by_key[folder.key]
