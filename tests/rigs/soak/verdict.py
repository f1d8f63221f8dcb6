"""What must hold when a soak is over, and what does not.

The rule: everything is checked, whatever was found wrong before; a finding says what, and where to look.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from invariants import (
    assert_archive_whole,
    assert_nothing_half_made,
    assert_second_start_changes_nothing,
    sha256,
)
from processes import modelwarden, outbox_of
from rigs.soak.hosts import DESTINATION, MARK, Host
from rigs.soak.readings import processes_with
from rigs.soak.trainers import Left
from servers import Posted

KEPT_A_RUN_KIB: Final = 4.0
"""Most memory that a daemon may keep of a run: its line of the index, and where its source lies."""

SLACK_MIB: Final = 16.0
"""How much more than it once had a daemon may keep: what an allocator does not give back after a backlog."""

MOST_LINES: Final = 20
LONGEST_LINE: Final = 300
"""How much is told of a log that is not clean."""

_TITLE: Final = re.compile(
    r"(?P<again>\(possible repeat\) )?(?!PROBLEM)"
    r"(?:REJECTED: (?P<files>\d+) summaries\b|(?P<one>REJECTED: )"
    r"|.*: (?:run (?P<run>\d{8}_\d{6}(?:_\d+)?)|(?P<runs>\d+) runs)\b)"
)


class Announced(NamedTuple):
    """One message that the destination took.

    Attributes:
        is_run: whether it is about runs; else about rejected files.
        events: how many it stands for.
        run: the run's name, where it is about one.
        again: whether it says that it may be a repeat.
    """

    is_run: bool
    events: int
    run: str | None
    again: bool


def announced(post: Posted) -> Announced | None:
    """What a message stands for, by its title; None for one that is about neither runs nor rejected files."""
    found = _TITLE.match(post.title)
    if found is None:
        return None
    events = int(found["runs"] or found["files"] or 1)
    return Announced(found["one"] is None and found["files"] is None, events, found["run"], found["again"] is not None)


def problems(checks: Mapping[str, Callable[[], object]]) -> Iterator[str]:
    """Do every check; one text a check that failed."""
    for name, check in checks.items():
        try:
            check()
        except AssertionError as error:
            yield f"{name}: {error}"


def assert_all_archived(archive: Path, left: Left) -> None:
    """All that must be is archived and nothing else, each once; the index is the archive's; nothing is half made."""
    found = {entry["sha256"] for entry in assert_archive_whole(archive)}
    assert not left.must - found, f"lost: {sorted(left.must - found)}"
    assert not found - left.must - left.may, f"archived though nobody left them: {sorted(found - left.must - left.may)}"
    assert_nothing_half_made(archive)


def assert_all_rejected(archive: Path, left: Left) -> None:
    """All that is no summary is kept with its reason; else nothing, but the beginning of a file then half written."""
    kept = {path.parent.name: path.read_bytes() for path in archive.glob("rejected/*/as_found")}
    expected = {digest[:16] for digest in left.bad}
    assert not expected - kept.keys(), f"not rejected: {sorted(expected - kept.keys())}"
    for name in kept.keys() - expected:
        assert any(each.startswith(kept[name]) for each in left.parts), f"rejected for no reason: {name}"
    for name, data in kept.items():
        recorded = json.loads((archive / "rejected" / name / "reason.json").read_bytes())
        assert recorded["sha256"] == sha256(data), name
        assert recorded["reason"], name


def assert_sources_untouched(left: Left, roots: Sequence[Path]) -> None:
    """Every file that trainers left is there as they left it, and no other."""
    found = {path for root in roots for path in root.rglob("*.json")}
    assert found == left.sources.keys(), f"other files than were left: {found ^ left.sources.keys()}"
    changed = [path for path, digest in left.sources.items() if sha256(path.read_bytes()) != digest]
    assert not changed, f"changed: {changed}"


def assert_announced(host: Host, left: Left, taken: Sequence[Posted]) -> None:
    """Each of the host's runs and rejections is owed once and was delivered; what came twice said so."""
    rows = outbox_of(host.site.state)
    assert all(row["destination"] == DESTINATION for row in rows)
    undelivered = [(row["event"], row["status"], row["last_error"]) for row in rows if row["status"] != "delivered"]
    assert not undelivered, f"{len(undelivered)} not delivered: {undelivered[:5]}"

    runs = _runs_of(host)
    owed = sorted(row["event"] for row in rows if row["kind"] == "RUN")
    assert owed == sorted(f"run:{digest[:16]}" for digest in runs.values()), _difference(owed, runs)
    # What lay in a folder that both watch is announced by whoever kept it first, or by both.
    bad = {digest[:16] for digest, roots in left.bad.items() if roots == {host.roots[-1]}}
    kept = {path.parent.name for path in host.site.archive.glob("rejected/*/reason.json")}
    rejected = {row["event"].removeprefix("rejected:") for row in rows if row["kind"] == "REJECTED"}
    assert bad <= rejected, f"rejections that nobody is told of: {sorted(bad - rejected)}"
    assert rejected <= kept, f"told of, and not kept: {sorted(rejected - kept)}"

    posted = [announced(post) for post in taken if post.path.strip("/") == host.name]
    messages = [message for message in posted if message is not None]
    for kind, count in ((True, len(owed)), (False, len(rejected))):
        of_kind = [message for message in messages if message.is_run is kind]
        total, fresh = (sum(each.events for each in some) for some in (of_kind, [m for m in of_kind if not m.again]))
        what = "runs" if kind else "rejections"
        assert total >= count, f"messages lost: {count} {what} were delivered, the destination heard of {total}"
        assert fresh <= count, f"repeated without saying so: of {count} {what} it heard {fresh} times as of new ones"
    alone = [message.run for message in messages if message.run is not None and not message.again]
    assert len(set(alone)) == len(alone), "the same run was announced twice as new"
    assert set(alone) <= runs.keys(), f"announced, and not the host's: {set(alone) - runs.keys()}"


def assert_logs_clean(host: Host) -> None:
    """Nothing that nobody foresaw: no traceback, no batch that failed, no line that is no event."""
    bad = [f"{name}: {line[:LONGEST_LINE]}" for name, lines in host.logs() for line in lines if not _is_clean(line)]
    assert not bad, "\n".join([f"{len(bad)} lines", *bad[:MOST_LINES]])


def assert_rejections_announced(hosts: Sequence[Host], left: Left) -> None:
    """Each file that was rejected is announced by one host at least."""
    owed = {row["event"] for host in hosts for row in outbox_of(host.site.state)}
    missing = [digest for digest in left.bad if f"rejected:{digest[:16]}" not in owed]
    assert not missing, f"rejections that nobody is told of: {missing}"


def assert_memory_bounded(at_quarter: float, at_end: float, runs_since: int) -> None:
    """What the daemon that was never killed keeps is bounded by what it knows, not by what it did."""
    bound = at_quarter + SLACK_MIB + runs_since * KEPT_A_RUN_KIB / 1024
    assert at_end <= bound, (
        f"{at_end:.1f} MiB at the end, {at_quarter:.1f} after a quarter: {runs_since} more runs explain {bound:.1f}"
    )


def assert_nobody_left(folder: Path) -> None:
    """Every process that the daemons started has ended."""
    left = processes_with(MARK, str(folder))
    assert not left, f"still running: {left}"


def assert_verified(host: Host) -> None:
    """`verify` finds nothing wrong."""
    result = modelwarden("verify", "--config", host.site.config, timeout=600)
    assert result.returncode == 0, result.stdout + result.stderr


def assert_starts_change_nothing(host: Host) -> None:
    """One more start finds nothing to do."""
    assert_second_start_changes_nothing(host.site)


def _is_clean(line: str) -> bool:
    if not line.startswith("{"):
        return line.startswith("modelwarden: ")
    event = json.loads(line)
    return event["level"] not in {"error", "critical"} and "exception" not in event


def _runs_of(host: Host) -> Mapping[str, str]:
    """The name and the digest of every run that this host's daemon archived."""
    mine = host.daemon_id()
    found: dict[str, Any] = {}
    for file in host.site.archive.glob("*/model_assessments.json"):
        document = json.loads(file.read_bytes())
        if document["daemon_id"] == mine:
            found[document["timestamp"]] = document["sha256"]
    return found


def _difference(owed: Sequence[str], runs: Mapping[str, str]) -> str:
    expected = {f"run:{digest[:16]}" for digest in runs.values()}
    return (
        f"owed for no run: {sorted(set(owed) - expected)}; never owed: {sorted(expected - set(owed))}; "
        f"owed twice: {len(owed) - len(set(owed))}"
    )
