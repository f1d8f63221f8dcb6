"""Files as large as may be: what they need of memory is bounded, and given back."""

import re
from pathlib import Path

import pytest

from processes import Daemon, Site, drop, make_site, modelwarden, running_daemon, until

MIB = 1024 * 1024
SIZE = 60 * MIB

REFUSED = {
    "objects": b'{"models": [' + b"{}," * (SIZE // 3) + b"{}]}",
    "numbers": b'{"models": [' + b"1.5," * (SIZE // 4) + b"1.5]}",
    "one text": b'{"models": "' + b"x" * SIZE + b'"}',
    "nothing": b" " * SIZE,
}


def memory(daemon: Daemon, what: str) -> int:
    """A line of /proc/PID/status, in bytes."""
    status = Path(f"/proc/{daemon.process.pid}/status").read_text()
    found = re.search(rf"^{what}:\s+(\d+) kB$", status, re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return make_site(tmp_path)


@pytest.mark.parametrize("shape", REFUSED)
def test_refused_file_costs_little_more_than_its_bytes(site: Site, shape: str) -> None:
    """At its worst, and nothing a while later; `check` says the same as the daemon."""
    with running_daemon("--no-courier", "--config", site.config, log=site.log) as daemon:
        idle = memory(daemon, "VmRSS")
        file = drop(REFUSED[shape], site.out)
        (refused,) = daemon.wait_for("summary_rejected", seconds=90)
        assert memory(daemon, "VmHWM") - idle < 3 * SIZE
        until(lambda: memory(daemon, "VmRSS") - idle < SIZE / 4, "the memory to be given back", 60)
        checked = modelwarden("check", file, "--config", site.config)
        assert checked.returncode == 2
        assert refused["reason"] in checked.stderr
