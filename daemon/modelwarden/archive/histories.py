"""The histories of a run's models, read again from its summary: what neither the index nor the catalog holds.

The rule: a reader for pictures, not for judgements. What is too large to be worth a picture is not read.
"""

import os
from collections.abc import Mapping, Sequence
from typing import Final

from modelwarden.archive.record import SUMMARY_FILE
from modelwarden.errors import UnknownRun
from modelwarden.gate.policy import Policy
from modelwarden.gate.summary import parse_summary
from modelwarden.gate.timestamp import is_run_name

MOST_BYTES: Final = 16 * 1024 * 1024
"""Of a summary: parsed, it takes some ten times as much memory."""


def read_histories(root: str, name: str, policy: Policy) -> Mapping[str, Sequence[float]]:
    """The policy's history over the validation points, by symbol; nothing if the summary has more than MOST_BYTES.

    Raises:
        UnknownRun: the name is no run's name.
        RejectSummary: somebody changed the summary, and it is none any more.
        OSError: it is gone, or can't be read.
    """
    if not is_run_name(name):
        raise UnknownRun(f"{name!r} is not a run's name")
    with open(os.path.join(root, name, SUMMARY_FILE), "rb") as stream:
        data = stream.read(MOST_BYTES + 1)
    return (
        {model.symbol: model.history for model in parse_summary(data, policy).models} if len(data) <= MOST_BYTES else {}
    )
