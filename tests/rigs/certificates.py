"""Certificates for servers that only a rig's processes reach: a CA of its own, and what it signs.

The rule: nothing on the machine trusts it; whoever is to trust it is told so by its environment.
"""

import ssl
import subprocess
from pathlib import Path
from typing import Final

from rigs.needs import needs

_DAYS: Final = "2"
_NEW_KEY: Final = ("-newkey", "rsa:2048", "-nodes")
"""Of the older kind: not every server of a stable distribution can sign with an elliptic curve."""


class Authority:
    """A CA.

    Args:
        folder: where its key and all certificates are kept.
        name: as its certificate has it.

    Attributes:
        file: its certificate, as PEM.
    """

    def __init__(self, folder: Path, name: str = "The rig's CA") -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.file: Final = folder / "ca.pem"
        self._request("ca", f"/CN={name}", "basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,cRLSign")

    @property
    def trusted(self) -> dict[str, str]:
        """The variables that make Python's TLS and requests trust this CA, and no other."""
        return {"SSL_CERT_FILE": str(self.file), "REQUESTS_CA_BUNDLE": str(self.file)}

    def certify(self, host: str) -> tuple[Path, Path]:
        """Make a certificate for a host; return its file and its key's."""
        self._request(
            host,
            f"/CN={host}",
            f"subjectAltName=DNS:{host}",
            "basicConstraints=critical,CA:FALSE",
            *("-CA", self.file, "-CAkey", self._folder / "ca.key"),
        )
        return self._folder / f"{host}.pem", self._folder / f"{host}.key"

    def served(self, host: str) -> ssl.SSLContext:
        """What a server of that name speaks TLS with."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.certify(host))
        return context

    def _request(self, name: str, subject: str, *rest: str | Path) -> None:
        extensions = [each for text in rest if "=" in str(text) for each in ("-addext", text)]
        options = [each for each in rest if "=" not in str(each)]
        files = ("-out", self._folder / f"{name}.pem", "-keyout", self._folder / f"{name}.key")
        needs(commands=("openssl",))
        subprocess.run(
            ["openssl", "req", "-x509", *_NEW_KEY, "-days", _DAYS, "-subj", subject, *extensions, *options, *files],
            check=True,
            capture_output=True,
        )
