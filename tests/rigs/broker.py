"""An MQTT broker as a team runs one: Mosquitto, which wants a login; and somebody who has subscribed to all of it.

The rule: both are the distribution's own programs, on a loopback port of this test alone.
"""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from processes import DIES_WITH_US, until
from rigs.needs import needs
from servers import unused_port

USER: Final = "warden"

_GREETING: Final = "greeting"
"""The topic of what the rig says itself."""


class Broker:
    """The broker, which can be stopped and started again.

    Args:
        folder: for its settings and what the subscriber hears.
        password: of its one user.
    """

    def __init__(self, folder: Path, password: str) -> None:
        needs(commands=("mosquitto", "mosquitto_passwd", "mosquitto_sub"))
        folder.mkdir(parents=True, exist_ok=True)
        self._heard = folder / "heard"
        self._password = password
        self._port = unused_port()
        self._settings = folder / "mosquitto.conf"
        logins = folder / "logins"
        subprocess.run(["mosquitto_passwd", "-b", "-c", logins, USER, password], check=True, capture_output=True)
        self._settings.write_text(
            f"listener {self._port} 127.0.0.1\nallow_anonymous false\npassword_file {logins}\nuser root\n"
        )
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Take messages from now on; return when somebody has subscribed."""
        self._run(["mosquitto", "-c", self._settings], subprocess.DEVNULL)
        until(self._is_greeted, "the broker")
        before = len(self._lines())
        with self._heard.open("ab") as stream:
            self._run(["mosquitto_sub", *self._as_user, "-t", "#", "-F", "%j"], stream)
        # What is said before the subscription is heard by nobody: it is greeted until it is.
        until(lambda: self._is_greeted() and len(self._lines()) > before, "the subscriber")

    def stop(self) -> None:
        """Be gone."""
        for process in self._processes:
            process.kill()
            process.wait()
        self._processes.clear()

    def url(self, password: str, topic: str = "models") -> str:
        """The Apprise URL that leads here."""
        return f"mqtt://{USER}:{password}@127.0.0.1:{self._port}/{topic}"

    def heard(self) -> list[dict[str, Any]]:
        """What the subscriber got: topic, payload, qos."""
        return [line for line in self._lines() if line["topic"] != _GREETING]

    @property
    def _as_user(self) -> tuple[str, ...]:
        return ("-h", "127.0.0.1", "-p", str(self._port), "-u", USER, "-P", self._password, "-q", "1")

    def _is_greeted(self) -> bool:
        command = ("mosquitto_pub", *self._as_user, "-t", _GREETING, "-m", "hello")
        return subprocess.run(command, check=False, capture_output=True).returncode == 0

    def _lines(self) -> list[dict[str, Any]]:
        whole = self._heard.read_text().rpartition("\n")[0] if self._heard.exists() else ""
        return [json.loads(line) for line in whole.splitlines()]

    def _run(self, command: list[str | Path], output: Any) -> None:
        process = subprocess.Popen(
            [*DIES_WITH_US, *command], stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.DEVNULL
        )
        self._processes.append(process)


@contextmanager
def broker(folder: Path, password: str) -> Iterator[Broker]:
    """A broker with a subscriber; both end with the test."""
    started = Broker(folder, password)
    try:
        started.start()
        yield started
    finally:
        started.stop()
