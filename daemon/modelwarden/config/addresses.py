"""Where the metrics may be asked for: an address that nobody but this host reaches.

The rule: what is told is told without a password, so no other address is taken. Names are not looked up: what they lead
to may change.
"""

import ipaddress
import re
from typing import Final

_PORT: Final = re.compile(r"(.+):([0-9]{1,5})")
_LAST_PORT: Final = 65535
_LONGEST_PATH: Final = 107
"""Bytes of the path of a socket in the file system: unix(7)."""

_WAYS: Final = 'write "127.0.0.1:9464", "[::1]:9464" or "unix:/run/modelwarden-courier/metrics.sock"'


def address_of(text: str) -> str | tuple[str, int]:
    """The path of a socket in the file system, or an address of this host alone with its port.

    Raises:
        ValueError: it is neither; what is wrong and what to write.
    """
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if not path.startswith("/") or "\0" in path:
            raise ValueError("the path after unix: begins with /")
        if len(path.encode("utf-8", "surrogateescape")) > _LONGEST_PATH:
            raise ValueError(f"the path of a socket has at most {_LONGEST_PATH} bytes")
        return path
    found = _PORT.fullmatch(text)
    if found is None:
        raise ValueError(f"this is no address with a port: {_WAYS}")
    host = found[1].removeprefix("[").removesuffix("]") if ":" in found[1] else found[1]
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        raise ValueError(f"names are not looked up: {_WAYS}") from None
    if (address.version == 6) != found[1].startswith("["):  # noqa: PLR2004 - IPv6
        raise ValueError(f"an IPv6 address stands in brackets: {_WAYS}")
    if not address.is_loopback:
        raise ValueError(f"others could ask there, and no password is asked for: {_WAYS}")
    if not 0 < int(found[2]) <= _LAST_PORT:
        raise ValueError(f"a port is 1 to {_LAST_PORT}")
    return str(address), int(found[2])
