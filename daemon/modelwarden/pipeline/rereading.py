"""The archive's runs read again from their folders, for the index and the catalog alike: each once, by all cores.

The rule: nothing here is decided. What can't be read as a run is left out, and whoever holds the lock says why.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import NamedTuple

from modelwarden.archive.encoding import encode_entry
from modelwarden.archive.publishing import Line
from modelwarden.archive.record import decode_assessments
from modelwarden.archive.tree import Tree
from modelwarden.cores import ask_all_cores
from modelwarden.errors import RetryLater, UnknownRun
from modelwarden.gate.run import RunRecord
from modelwarden.state.rows import ModelRow, model_rows


class Reread(NamedTuple):
    """A run as its folder has it.

    Attributes:
        run: its record.
        models: the catalog's rows.
        line: the index's.
    """

    run: RunRecord
    models: Sequence[ModelRow]
    line: Line


def read_again(tree: Tree, names: Sequence[str]) -> Iterator[Reread]:
    """Those of these folders that are runs, in order."""
    for _, reread in ask_all_cores(partial(_read, tree), names):
        if reread is not None:
            yield reread


def _read(tree: Tree, name: str) -> Reread | None:
    fingerprint = tree.fingerprint(name)
    if fingerprint is None or not tree.is_complete(name):
        return None
    try:
        run, assessments = decode_assessments(tree.read(name))
    except (ValueError, UnknownRun, RetryLater):
        return None
    if run.timestamp != name:
        return None
    return Reread(run, model_rows(assessments), Line(fingerprint, run.sha256, encode_entry(run)))
