"""A model's figures in one column of a table: packed and back.

The rule: what comes back is what went in, NaN and the infinities included, which SQLite's own numbers don't keep.
"""

import json
import math
from collections.abc import Sequence
from functools import lru_cache
from struct import Struct


def packed_figures(values: Sequence[float | None]) -> bytes | str:
    """Eight bytes a figure; a JSON list if one is missing, which no float says.

    As bytes they are read back several times as fast as JSON, and nearly all are such.
    """
    if None in values:
        return json.dumps([value if value is None or math.isfinite(value) else str(value) for value in values])
    return _layout(len(values)).pack(*values)


def unpacked_figures(packed: bytes | str) -> tuple[float | None, ...]:
    """The figures, in their order; None if missing."""
    if isinstance(packed, bytes):
        return _layout(len(packed) // 8).unpack(packed)
    return tuple([float(value) if isinstance(value, str) else value for value in json.loads(packed)])


@lru_cache(maxsize=64)
def _layout(count: int) -> Struct:
    return Struct(f"<{count}d")


def packed_columns(*columns: float | str | None) -> bytes | str:
    """The same from columns of their own, as an earlier state file has them: there, text is what is not finite."""
    return packed_figures([float(value) if isinstance(value, str) else value for value in columns])
