"""A model's figures in one column of a table: packed and back.

The rule: what comes back is what went in, NaN and the infinities included, which SQLite's own numbers don't keep.
"""

import json
import math
from collections.abc import Sequence
from struct import pack, unpack


def packed_figures(values: Sequence[float | None]) -> bytes | str:
    """Eight bytes a figure; a JSON list if one is missing, which no float says.

    As bytes they are read back several times as fast as JSON, and nearly all are such.
    """
    if None in values:
        return json.dumps([value if value is None or math.isfinite(value) else str(value) for value in values])
    return pack(f"<{len(values)}d", *values)


def unpacked_figures(packed: bytes | str) -> tuple[float | None, ...]:
    """The figures, in their order; None if missing."""
    if isinstance(packed, bytes):
        return unpack(f"<{len(packed) // 8}d", packed)
    return tuple([float(value) if isinstance(value, str) else value for value in json.loads(packed)])


def packed_columns(*columns: float | str | None) -> bytes | str:
    """The same from columns of their own, as an earlier state file has them: there, text is what is not finite."""
    return packed_figures([float(value) if isinstance(value, str) else value for value in columns])
