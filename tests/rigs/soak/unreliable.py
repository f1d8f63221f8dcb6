"""The destination: an HTTP server on loopback that refuses some of what it is sent, and now and then everything.

The rule: what it took and what it refused are both kept; what was on the way when somebody died may be either.
"""

from random import Random
from typing import Final

from servers import Answering, HttpServer

REFUSED_SHARE: Final = 0.2
"""How many requests are refused while nothing is wrong."""


class UnreliableServer(HttpServer):
    """The server.

    Args:
        chance: what refuses.
    """

    def __init__(self, chance: Random) -> None:
        self._chance = chance
        self._answer: Answering = 200
        self._share = REFUSED_SHARE
        super().__init__()

    @property
    def answer(self) -> Answering:
        """What this request gets; asked once a request."""
        return 503 if self._answer == 200 and self._chance.random() < self._share else self._answer

    @answer.setter
    def answer(self, answer: Answering) -> None:
        self._answer = answer

    def relent(self) -> None:
        """Refuse nothing any more."""
        self._share = 0.0
