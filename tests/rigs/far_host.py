"""A host at the other end of a private network, which takes messages over HTTPS, and the ways in which it can break.

The rule: a fault is made where it is made in the world, in names, certificates, sockets and answers; the product is not
told of it.
"""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rigs.certificates import Authority
from rigs.private_network import PrivateNetwork
from servers import Answer, HttpServer, Posted, http_server

PORT: Final = 443


class FarHost:
    """The host. Nothing of it is there before `listen` and `network.name`.

    Args:
        network: where it is.
        authority: who certifies it.
        name: by which it is known.
        address: of the loopback, its own.
        stack: closes what it opened.
    """

    def __init__(
        self, network: PrivateNetwork, authority: Authority, name: str, address: str, stack: ExitStack
    ) -> None:
        self.network = network
        self.name = name
        self.address = address
        self.authority = authority
        self.tls = authority.served(name)
        self._stack = stack
        self._server: HttpServer | None = None

    @property
    def server(self) -> HttpServer:
        """What listens there."""
        if self._server is None:
            listener = self.network.listener(PORT, self.address)
            self._server = self._stack.enter_context(http_server(listener, self.tls))
        return self._server

    @property
    def accepted(self) -> list[Posted]:
        """What was taken."""
        return self._server.accepted if self._server else []

    @property
    def refused(self) -> list[Posted]:
        """What came and was not answered with a 200."""
        return [each for each in self._server.requests if each not in self.accepted] if self._server else []

    def resolve(self) -> None:
        """Let its name be known."""
        self.network.name(self.name, self.address)

    def listen(self) -> None:
        """Take connections from now on."""
        assert self.server.port == PORT

    def url(self, path: str, query: str = "") -> str:
        """The Apprise URL that leads here."""
        return f"jsons://{self.name}/{path}{query}"


@dataclass(frozen=True)
class Fault:
    """One way to break.

    Attributes:
        name: as a test's name has it.
        begin: makes it so.
        end: makes the host whole.
        ambiguous: whether the other side may have taken a message that it did not answer.
        query: what is added to the URL.
    """

    name: str
    begin: Callable[[FarHost, Path], None]
    end: Callable[[FarHost], None]
    ambiguous: bool = False
    query: str = ""


def _answers(answer: int | Answer) -> Callable[[FarHost, Path], None]:
    def begin(host: FarHost, _folder: Path) -> None:
        host.resolve()
        host.server.answer = answer

    return begin


def _answers_again(host: FarHost) -> None:
    host.server.answer = 200
    host.server.released.set()


def _refuse(host: FarHost, _folder: Path) -> None:
    host.resolve()


def _be_unknown(host: FarHost, _folder: Path) -> None:
    host.listen()


def _be_certified_by_another(host: FarHost, folder: Path) -> None:
    host.resolve()
    host.server.tls = Authority(folder / "another-ca", "Another CA").served(host.name)


def _be_certified_as_another(host: FarHost, _folder: Path) -> None:
    host.resolve()
    host.server.tls = host.authority.served("elsewhere.example")


def _show_its_certificate(host: FarHost) -> None:
    host.server.tls = host.tls


FAULTS: Final = (
    Fault("hangs", _answers(Answer.HANG), _answers_again, ambiguous=True),
    Fault("hangs_longer_than_the_library_waits", _answers(Answer.HANG), _answers_again, ambiguous=True, query="?rto=1"),
    Fault("trickles", _answers(Answer.TRICKLE), _answers_again, ambiguous=True),
    Fault("takes_and_hangs_up", _answers(Answer.CLOSE), _answers_again, ambiguous=True),
    Fault("answers_302", _answers(302), _answers_again),
    Fault("answers_429", _answers(429), _answers_again),
    Fault("answers_500", _answers(500), _answers_again),
    Fault("listens_nowhere", _refuse, FarHost.listen),
    Fault("shows_the_certificate_of_another_ca", _be_certified_by_another, _show_its_certificate),
    Fault("shows_the_certificate_of_another_host", _be_certified_as_another, _show_its_certificate),
    Fault("has_a_name_that_nobody_knows", _be_unknown, FarHost.resolve),
)
