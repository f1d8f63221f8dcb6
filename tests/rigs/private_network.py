"""A network that only a rig's processes see: loopback alone, with names of its own, among them hooks.slack.com.

The rule: nothing in there reaches the machine's network, and nothing outside sees its servers or its /etc. Servers may
run in the test's own process: a socket belongs to the network in which it was made, whoever uses it.
"""

import ctypes
import os
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from subprocess import Popen
from typing import Final

from processes import until
from rigs.mounts import PrivateMounts, namespace_holder
from rigs.needs import needs

_CLONE_NEWNET: Final = 0x40000000  # setns(2)

_RESOLVER: Final = "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n"
"""Nobody answers there, so that an unknown name is known to be so at once."""


class PrivateNetwork(PrivateMounts):
    """A network namespace, with a mount namespace for the names in it.

    Args:
        holder: the process that holds both.
        folder: for the files that stand in for those of /etc.
    """

    def __init__(self, holder: int, folder: Path) -> None:
        super().__init__(holder)
        self.how = ("nsenter", f"--mount=/proc/{holder}/ns/mnt", f"--net=/proc/{holder}/ns/net", "--")
        self._network = f"/proc/{holder}/ns/net"
        self._hosts = folder / "hosts"
        self._hosts.write_text("127.0.0.1 localhost\n")
        self._bind(self._hosts, "/etc/hosts")
        for name, text in (("resolv.conf", _RESOLVER), ("nsswitch.conf", "hosts: files dns\npasswd: files\n")):
            (folder / name).write_text(text)
            self._bind(folder / name, f"/etc/{name}")

    def name(self, host: str, address: str = "127.0.0.1") -> None:
        """From now on the host is known in there, at that address of the loopback."""
        with self._hosts.open("a") as stream:  # the mount is of this very file: it may not be replaced
            stream.write(f"{address} {host}\n")

    def listener(self, port: int, address: str = "127.0.0.1") -> socket.socket:
        """A socket that listens in there."""
        return self._in_there(lambda: socket.create_server((address, port)))

    def wait_for_server(self, port: int, process: Popen[bytes], log: Path) -> None:
        """Wait until the process listens there; fail with its log where it ends instead."""

        def is_reached() -> bool:
            assert process.poll() is None, f"the server ended:\n{log.read_text()}"
            try:
                self._in_there(lambda: socket.create_connection(("127.0.0.1", port))).close()
            except ConnectionRefusedError:
                return False
            return True

        until(is_reached, f"a server at port {port}")

    def _in_there(self, function: Callable[[], socket.socket]) -> socket.socket:
        def call() -> socket.socket:
            self._enter()
            return function()

        with ThreadPoolExecutor(1) as thread:  # which alone enters, and ends in there
            return thread.submit(call).result()

    def _enter(self) -> None:
        with open(self._network) as namespace:
            library = ctypes.CDLL(None, use_errno=True)
            if library.setns(namespace.fileno(), _CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

    def _bind(self, file: Path, over: str) -> None:
        self.run("mount", "--bind", file, os.path.realpath(over))


@contextmanager
def private_network(folder: Path) -> Iterator[PrivateNetwork]:
    """A new network, gone at the end."""
    needs(root=True, commands=("ip",))
    folder.mkdir(parents=True, exist_ok=True)
    with namespace_holder("--net", first="ip link set lo up") as holder:
        yield PrivateNetwork(holder, folder)
