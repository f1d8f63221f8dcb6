"""Somebody who reads index.json all the time, as a dashboard would.

The rule: whatever is read is a whole index, or what somebody else has just written over it by hand.
"""

import json
from collections.abc import Collection
from pathlib import Path


class IndexReader:
    """A reader.

    Args:
        path: of index.json.
        by_hand: what may be found in its place.

    Attributes:
        reads: how often it was whole.
        torn: what was neither whole nor written by hand.
    """

    def __init__(self, path: Path, by_hand: Collection[bytes]) -> None:
        self._path = path
        self._by_hand = by_hand
        self.reads = 0
        self.torn: list[bytes] = []

    def read(self) -> None:
        """Once."""
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            return
        if data in self._by_hand:
            return
        try:
            names = [run["timestamp"] for run in json.loads(data)["runs"]]
        except (ValueError, KeyError, TypeError):
            self.torn.append(data)
            return
        if len(set(names)) < len(names):
            self.torn.append(data)
        self.reads += 1
