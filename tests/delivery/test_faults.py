"""Whatever is wrong with one destination, the one beside it notices nothing, and what was owed arrives in the end.

The rule: the daemon and its courier are real processes, and so are the names, the certificates and the sockets.
"""

import re
import time
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from conftest import Figure
from processes import Daemon, Site, destination, drop, is_running, make_site, outbox_of, running_daemon, until
from rigs.certificates import Authority
from rigs.far_host import FAULTS, FarHost, Fault
from rigs.private_network import PrivateNetwork, private_network
from servers import Answer, HttpServer, Posted, http_server
from summaries import GOOD, encoded, flat_summary

pytestmark = pytest.mark.delivery

SECRET: Final = "c4nary-s3cret"
MARK: Final = "(possible repeat) "
RUNS: Final = tuple(f"2024010{number}_000000" for number in range(1, 4))

QUICK: Final = "[notify]\nsend_timeout_seconds = 2\n"
"""So that a send that hangs is given up within a test's time."""


@pytest.fixture
def network(stack: ExitStack, tmp_path: Path) -> PrivateNetwork:
    """A network in which nobody is known."""
    return stack.enter_context(private_network(tmp_path / "net"))


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """A CA that the daemon trusts."""
    return Authority(tmp_path / "ca")


@pytest.fixture
def healthy(network: PrivateNetwork, authority: Authority, stack: ExitStack) -> FarHost:
    """A host that takes everything."""
    host = FarHost(network, authority, "healthy.example", "127.0.0.2", stack)
    host.resolve()
    host.listen()
    return host


def archive(site: Site, run: str) -> None:
    """Let the daemon archive a run of that name."""
    drop(encoded(flat_summary({f"M{run[7]}": GOOD}, timestamp=run)), site.out, f"{run}.json")


def runs_of(posted: list[Posted]) -> list[str]:
    """The names of the runs that messages are about, in the order in which they came."""
    return [name for each in posted for name in re.findall(r"run (\d{8}_\d{6})", each.title)]


def _took(host: FarHost, count: int) -> bool:
    return len(host.accepted) >= count


def delays(daemon: Daemon, posted: list[Posted]) -> list[float]:
    """Seconds from the archive to the other end, of each message."""
    archived = {
        event["run"]: datetime.fromisoformat(event["timestamp"]).timestamp() for event in daemon.events("run_archived")
    }
    return [each.at - archived[run] for each, run in zip(posted, runs_of(posted), strict=True)]


def _all_took(servers: Sequence[HttpServer], count: int) -> bool:
    return all(len(server.accepted) >= count for server in servers)


def figures_of(seconds: list[float]) -> str:
    """The middle and the largest."""
    return f"median {sorted(seconds)[len(seconds) // 2]:.2f} s, at most {max(seconds):.2f} s of {len(seconds)}"


@pytest.mark.parametrize("fault", [pytest.param(fault, id=fault.name) for fault in FAULTS])
def test_fault_of_one_destination_is_not_noticed_by_another(
    tmp_path: Path,
    network: PrivateNetwork,
    authority: Authority,
    healthy: FarHost,
    stack: ExitStack,
    figure: Figure,
    fault: Fault,
) -> None:
    """The healthy one gets every message once while the fault lasts; the other gets them afterwards.

    Only what it may have got before is marked.
    """
    faulty = FarHost(network, authority, "faulty.example", "127.0.0.3", stack)
    fault.begin(faulty, tmp_path)
    site = make_site(
        tmp_path / "site",
        destination("faulty", faulty.url(SECRET, fault.query), "APPROVED"),
        destination("healthy", healthy.url(SECRET), "APPROVED"),
        QUICK,
    )

    def failed() -> list[str]:
        return [row["event"] for row in outbox_of(site.state) if row["destination"] == "faulty" and row["last_error"]]

    with running_daemon("--config", site.config, log=site.log, how=network.how, env=authority.trusted) as daemon:
        daemon.wait_for("courier_ready")
        for number, run in enumerate(RUNS, start=1):
            archive(site, run)
            until(partial(_took, healthy, number), f"run {run} at the healthy destination")
        until(failed, "the fault to be seen")
        assert {row["status"] for row in outbox_of(site.state) if row["destination"] == "faulty"} <= {
            "pending",
            "sending",
        }
        assert faulty.accepted == []
        fault.end(faulty)
        until(lambda: len(runs_of(faulty.accepted)) >= len(RUNS), "what was owed", seconds=90)
        until(lambda: {row["status"] for row in outbox_of(site.state)} == {"delivered"}, "all to be recorded")
        assert daemon.stop() == 0
        figure(
            f"delay of the healthy destination beside one that {fault.name}",
            figures_of(delays(daemon, healthy.accepted)),
        )

    assert sorted(runs_of(healthy.server.requests)) == sorted(RUNS)
    assert sorted(runs_of(faulty.accepted)) == sorted(RUNS)
    assert {each.method for each in faulty.server.requests} == {"POST"}, "a redirect was followed"
    in_doubt = set(runs_of(faulty.refused)) if fault.ambiguous else set()
    marked = {run for each in faulty.accepted for run in runs_of([each]) if each.title.startswith(MARK)}
    assert marked == in_doubt
    assert not any(each.title.startswith(MARK) for each in healthy.accepted)
    assert SECRET not in site.log.read_text()


@pytest.mark.parametrize("beside", [None, Answer.TRICKLE], ids=["nothing_wrong", "one_that_never_ends_an_answer"])
def test_runs_one_after_the_other_arrive_once_each(tmp_path: Path, figure: Figure, beside: Answer | None) -> None:
    """Also while couriers give way, one after the other, because of what another destination does to them."""
    names = [f"2024020{number}_000000" for number in range(1, 9)]
    with http_server() as first, http_server() as second, http_server() as bad:
        tables = [destination("first", first.url(), "APPROVED"), destination("second", second.url(), "APPROVED")]
        if beside is not None:
            bad.answer = beside
            tables.insert(0, destination("bad", bad.url(), "APPROVED"))
        site = make_site(tmp_path, *tables, "[notify]\nsend_timeout_seconds = 1\n")
        with running_daemon("--config", site.config, log=site.log) as daemon:
            daemon.wait_for("courier_ready")
            for count, run in enumerate(names, start=1):
                archive(site, run)
                until(partial(_all_took, (first, second), count), f"run {run} at both")
            given_way = len(daemon.events("courier_gives_way"))
            assert daemon.stop() == 0
        assert (given_way > 0) == (beside is not None)
        assert bad.accepted == []
        for server in (first, second):
            assert runs_of(server.requests) == names
            assert not any(each.title.startswith(MARK) for each in server.requests)
        seconds = [each for server in (first, second) for each in delays(daemon, server.accepted)]
    what = "nothing wrong" if beside is None else f"beside one that hangs (couriers that gave way: {given_way})"
    figure(f"archived to received on loopback, {what}", figures_of(seconds))


@pytest.mark.parametrize("fault", [Answer.HANG, Answer.TRICKLE], ids=["hangs", "trickles"])
def test_send_that_has_not_ended_holds_nothing_up(tmp_path: Path, figure: Figure, fault: Answer) -> None:
    """All is delivered beside it, and the daemon stopped, while that one send goes on; the next start repeats it."""
    with http_server() as hung, http_server() as healthy:
        hung.answer = fault
        tables = (destination("hung", hung.url(), "APPROVED"), destination("healthy", healthy.url(), "APPROVED"))
        site = make_site(tmp_path, *tables, "[notify]\nsend_timeout_seconds = 600\n")
        with running_daemon("--config", site.config, log=site.log) as daemon:
            for count, run in enumerate(RUNS, start=1):
                archive(site, run)
                until(partial(_all_took, [healthy], count), f"run {run} at the healthy destination")
            until(lambda: hung.requests, "the send that hangs")
            asked_at = time.monotonic()
            assert daemon.stop() == 0
            figure(f"stop while a send {fault.name.lower()}s", f"{time.monotonic() - asked_at:.1f} s")
        stand = {(row["destination"], row["status"], row["attempts"]) for row in outbox_of(site.state)}
        assert stand == {("hung", "sending", 1), ("hung", "pending", 0), ("healthy", "delivered", 1)}
        assert not is_running(daemon.events("courier_started")[-1]["pid"])

        hung.answer = 200
        with running_daemon("--config", site.config, log=site.log) as daemon:
            until(partial(_all_took, [hung], len(RUNS)), "what was owed")
            until(lambda: {row["status"] for row in outbox_of(site.state)} == {"delivered"}, "all to be recorded")
            assert daemon.stop() == 0
        assert runs_of(hung.accepted) == list(RUNS)
        assert [each.title.startswith(MARK) for each in hung.accepted] == [True, False, False]
        assert runs_of(healthy.requests) == list(RUNS)
