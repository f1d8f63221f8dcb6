"""A trainer's file that a command is given: read by the format of its folder, or by one that is named.

The rule: it is read as the daemon would read it, and judged by what would judge it there. Whether its training ended
counts for what a folder happens to hold; who names a file means it as it is.
"""

import os
from dataclasses import replace
from typing import Annotated, Final

import typer

from modelwarden.cli.formats import named_format
from modelwarden.config import Settings
from modelwarden.errors import StopService
from modelwarden.formats.description import Format
from modelwarden.formats.finality import Look
from modelwarden.formats.fitting import disagreements
from modelwarden.formats.normalising import NotFinal, Torn
from modelwarden.formats.sandbox import missing_extra
from modelwarden.gate.policy import DEFAULT_NAME
from modelwarden.intake.scan import is_inside
from modelwarden.intake.settling import Settling
from modelwarden.pipeline.policies import JudgedFolder, Policies
from modelwarden.pipeline.trainers import translate_file
from modelwarden.pipeline.walk import Found
from modelwarden.service.endings import Endings
from modelwarden.wiring.policies import policies_of

FormatName = Annotated[
    str | None,
    typer.Option(
        "--format", metavar="NAME", help="Read by this format, whatever a [[watch]] says.", show_default=False
    ),
]
PolicyName = Annotated[
    str | None,
    typer.Option("--policy", metavar="NAME", help="By this policy, not by that of the file's folder."),
]

_EVERYWHERE: Final = "/"


def policies_as_told(settings: Settings, format_name: str | None, policy_name: str | None) -> Policies:
    """The settings' policies and formats, with those that are named in place of every folder's.

    Raises:
        StopService: there is no format or policy of that name, they do not go together, or the extra is missing.
    """
    policies = policies_of(settings)
    if policy_name is not None and policy_name not in policies.by_name:
        known = ", ".join(policies.by_name)
        raise StopService(f"there is no policy {policy_name!r}", where="--policy", hint=f"the settings have {known}")
    everywhere = JudgedFolder(_EVERYWHERE, ("*",), policy_name or DEFAULT_NAME)
    if format_name is None:
        if policy_name is None:
            return policies
        folders = tuple(each._replace(policy=policy_name) for each in (*policies.folders, everywhere))
    else:
        format_ = replace(_format(settings, format_name), files=("*",))
        for _, words in disagreements(policies.by_name[everywhere.policy], format_):
            said = f"the policy {everywhere.policy!r} does not go with it: {words}"
            raise StopService(said, where="--format", hint="name another policy with --policy")
        folders = (everywhere._replace(format=format_, final=tuple(format_.conditions)),)
    return replace(policies, folders=folders)


def _format(settings: Settings, name: str) -> Format:
    format_ = named_format(settings, name, "--format")
    if missing := missing_extra():
        hint = 'pip install "modelwarden[formats]"'
        raise StopService(f"{', '.join(missing)} is not installed", where="--format", hint=hint)
    return format_


def is_wanted(file: str, *, policies: Policies, told: Format | None) -> bool | None:
    """Whether a file that a folder holds is what its format, or the one that was told, takes; None: there is none."""
    if told is not None:
        return told.takes(file)
    folder = policies.folder_of(file)
    if folder is not None:
        return None if folder.format is None else True
    has_format = any(each.format is not None and is_inside(file, each.path) for each in policies.folders)
    return False if has_format else None


def endings_now() -> Endings:
    """What tells whether a training has ended, for who looks once."""
    return Endings(Settling(0.0, 0.0), 0.0)


def translated(found: Found, policies: Policies, max_bytes: int, endings: Endings | None = None) -> Found | None:
    """The file with the summary that its format makes of it, if it has one; None: its training goes on.

    Args:
        found: the file.
        policies: which of them reads and judges it.
        max_bytes: cap on the bytes of a run's files together.
        endings: says whether the training ended; None: that does not matter.

    Raises:
        RejectSummary: it is nothing that the format reads.
    """
    folder = reading(found.path, policies.folder_of(found.path))
    if folder is None or folder.format is None:
        return found
    look = Look.READ if endings is None else endings.look(found.path, folder)
    if look is None:
        return None
    asks = look is Look.READ_IF_COMPLETE
    try:
        policy, read = policies.of_path(found.path), found.fingerprint
        made = translate_file(found.path, found.data, folder, policy, max_bytes, if_complete=asks, fingerprint=read)
    except Torn:
        if asks:
            return None
        raise
    if isinstance(made, NotFinal):
        return None
    return found._replace(data=made.original, summary=made.summary, name=made.name)


def reading(path: str, folder: JudgedFolder | None) -> JudgedFolder | None:
    """The folder of a file; where that is everywhere, checkpoints are looked for below the one two above the file."""
    if folder is None or folder.path != _EVERYWHERE:
        return folder
    return folder._replace(path=os.path.dirname(os.path.dirname(path)))
