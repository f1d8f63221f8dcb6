"""However many runs come at once, and however often a daemon starts over: nobody is flooded.

The rule: messages are counted where they arrive.
"""

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import pytest

from conftest import Figure
from modelwarden.cli.running import SOMETHING_LEFT
from processes import Site, destination, drop, make_site, modelwarden, outbox_of, running_daemon, until
from rigs.crash_scenes import scratch
from rigs.crash_subject import Orders
from rigs.lives import subjects
from rigs.mutants import PACKAGE
from servers import HttpServer, http_server
from summaries import GOOD, encoded, flat_summary

pytestmark = pytest.mark.delivery

MANY: Final = 10_000
"""Runs of a backfill."""

HANDFUL: Final = 5
"""Messages at most, also where the archiving takes so long that one message can't wait for all of it."""

OLD: Final = 30
"""Runs of an archive that is there already."""

STARTS: Final = 100
WHOLE: Final = 3
"""How often a daemon starts over an archive, and how many of these are a command with a courier of its own."""

NAMES: Final = ("team", "desk")
NEWS: Final = ("APPROVED", "DROP", "REJECTED", "PROBLEM")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder in memory: what is counted does not depend on the disk."""
    with scratch() as folder:
        yield folder


@pytest.fixture
def servers() -> Iterator[Sequence[HttpServer]]:
    """A service behind each name."""
    with http_server() as first, http_server() as second:
        yield first, second


def site_of(folder: Path, servers: Sequence[HttpServer]) -> Site:
    """A place of work whose messages go to all of them."""
    return make_site(folder, *(destination(name, each.url(), *NEWS) for name, each in zip(NAMES, servers, strict=True)))


def leave(site: Site, count: int, first: int = 0) -> None:
    """So many runs of one model each."""
    for number in range(first, first + count):
        minute, second = divmod(number, 60)
        hour, minute = divmod(minute, 60)
        run = f"2024{1 + hour // 24:02d}{1 + hour % 24:02d}_{hour % 24:02d}{minute:02d}{second:02d}"
        drop(encoded(flat_summary({f"SYM{number:05d}": GOOD}, timestamp=run)), site.out, f"{number:05d}.json")


def run_once(site: Site, *options: str) -> None:
    """Archive and deliver what there is; nothing may be left owed, though a file may have been rejected."""
    done = modelwarden("run", "--once", *options, "--config", site.config, timeout=110)
    assert done.returncode in {0, SOMETHING_LEFT}, done.stderr
    if not options:
        assert_all_delivered(site)


def assert_all_delivered(site: Site) -> None:
    """Nobody is owed anything."""
    assert {row["status"] for row in outbox_of(site.state)} <= {"delivered"}


def test_backfill_of_10000_runs_while_no_courier_ran_is_one_message(
    folder: Path, servers: Sequence[HttpServer], figure: Figure
) -> None:
    """One digest a destination stands for all of them."""
    site = site_of(folder, servers)
    leave(site, MANY)
    began = time.monotonic()
    run_once(site, "--no-courier")
    archived = time.monotonic()
    drained = modelwarden("courier", "--drain", "--config", site.config)
    assert drained.returncode == 0, drained.stderr
    assert_all_delivered(site)
    for server in servers:
        (message,) = server.requests
        assert message.title.startswith(f"APPROVED {MANY} · REVIEW 0 · DROP 0: {MANY} runs (")
    figure(
        f"backfill of {MANY} runs, courier afterwards",
        f"1 message to each; archived in {archived - began:.0f} s, delivered in {time.monotonic() - archived:.1f} s",
    )


def test_backfill_of_10000_runs_beside_a_courier_is_a_handful_of_messages(
    folder: Path, servers: Sequence[HttpServer], figure: Figure
) -> None:
    """The daemon and its courier as they run: what is owed gathers while more comes."""
    site = site_of(folder, servers)
    leave(site, MANY)
    with running_daemon("--config", site.config, log=site.log) as daemon:
        until(lambda: len(daemon.events("run_archived")) >= MANY, f"{MANY} runs", seconds=110)
        until(lambda: {row["status"] for row in outbox_of(site.state)} == {"delivered"}, "all to be delivered")
        assert daemon.stop() == 0
    counts = [len(server.requests) for server in servers]
    figure(f"backfill of {MANY} runs, courier beside", f"{counts} messages to {len(NAMES)} destinations")
    assert max(counts) <= HANDFUL


@pytest.fixture
def told(folder: Path, servers: Sequence[HttpServer]) -> Site:
    """A place of work with old runs and a rejected file, of which everybody has heard."""
    site = site_of(folder / "site", servers)
    leave(site, OLD)
    drop(b"[]", site.out, "rejected.json")
    run_once(site)
    for server in servers:
        assert len(server.requests) == 2, "one for the runs, one for the rejected file"
        server.requests.clear()
    return site


def test_100_starts_over_an_archive_send_nothing(told: Site, servers: Sequence[HttpServer], figure: Figure) -> None:
    """Starts alone, and whole commands with a courier; the trainer's files still lie where they were."""
    rows = outbox_of(told.state)
    with subjects(PACKAGE.parent) as lives:
        for _ in range(STARTS - WHOLE):
            with lives.life(Orders(str(told.config), [[str(path) for path in told.out.iterdir()]])) as life:
                report = life.end()
                assert report is not None
                assert not report.ended + report.unforeseen
    for _ in range(WHOLE):
        run_once(told)
    assert outbox_of(told.state) == rows
    sent = [len(server.requests) for server in servers]
    assert sent == [0, 0]
    figure(f"{STARTS} starts over an archive of {OLD} runs", f"{sum(sent)} messages")


def lose_the_state(site: Site) -> None:
    """The state file is gone, and with it the memory of what was announced."""
    shutil.rmtree(site.state)


def lose_the_index(site: Site) -> None:
    """The index is gone."""
    (site.archive / "index.json").unlink()


def index_again(site: Site) -> None:
    """The index and the catalog are made again by hand."""
    assert modelwarden("reindex", "--config", site.config).returncode == 0


def move_to_another_host(site: Site) -> None:
    """Another daemon, with a state of its own, is given the archive; nothing waits for it."""
    site.config.write_text(f'state_dir = "other-state"\n{site.config.read_text()}')
    for path in site.out.iterdir():
        path.unlink()


@pytest.mark.parametrize("befalls", [lose_the_state, lose_the_index, index_again, move_to_another_host])
def test_archive_of_old_runs_brings_no_message_and_the_next_run_one(
    told: Site, servers: Sequence[HttpServer], befalls: Callable[[Site], None]
) -> None:
    """Whatever became of what was derived from it."""
    befalls(told)
    run_once(told)
    assert [len(server.requests) for server in servers] == [0, 0]

    leave(told, 1, first=OLD)
    run_once(told)
    for server in servers:
        (message,) = server.requests
        assert f"SYM{OLD:05d}" in message.text
