"""The policies that the settings resolve to.

The rule: which policy and which format judge a file is decided by the folder that it lies in, and by nothing else.
"""

import os
from collections.abc import Mapping
from dataclasses import replace

from modelwarden.config import Settings, WatchTable, known_formats
from modelwarden.formats.description import Format
from modelwarden.formats.finality import parse_condition
from modelwarden.pipeline.policies import JudgedFolder, Policies


def policies_of(settings: Settings) -> Policies:
    """The policies that the settings resolve to, and which of them judges where."""
    has_formats = any(each.format is not None for each in settings.watch)
    formats = known_formats(settings).formats if has_formats else {}
    default, *others = settings.policies().values()
    return Policies(
        default,
        tuple(others),
        tuple(_judged_folder(each, formats, os.path.realpath(settings.archive_dir)) for each in settings.watch),
    )


def _judged_folder(watch: WatchTable, formats: Mapping[str, Format], archive: str) -> JudgedFolder:
    """A watched folder as its table says; what it leaves out is its format's."""
    if watch.format is None:
        return JudgedFolder(watch.path, watch.patterns, watch.policy, recursive=watch.recursive)
    format_ = replace(formats[watch.format], files=watch.patterns)
    return JudgedFolder(
        watch.path,
        format_.names,
        watch.policy,
        format_,
        tuple(map(parse_condition, watch.final or format_.final)),
        only_best=watch.models == "best",
        group=watch.group or "",
        excluded=(archive,),
        recursive=watch.recursive,
    )
