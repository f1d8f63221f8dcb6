"""One call of a life refused, and what the daemon must make of it.

The rule: a refusal costs a pause, never a run. The daemon lives on and says where what was refused; it begins again
from the source, never syncing a file a second time whose first sync failed. Only a start may end instead, with a
sentence that says where.
"""

from collections.abc import Sequence
from typing import Final

from rigs.crash_scenes import HARMLESS, Place, Scene
from rigs.system_calls import Seen, seen

TRIES: Final = 3
"""How often a life tries: once it is refused, then it is not."""


def of_the_state(call: Seen) -> bool:
    """Whether SQLite made it: whatever the error, the product hears one of SQLite's."""
    return call.point.call == "fdatasync" or ("modelwarden.sqlite" in call.path and not call.path.endswith(".lock"))


def can_be_refused(call: Seen) -> bool:
    """Whether a disk could refuse this call.

    None refuses to take back a lock, and none that grants a lease refuses to close: a rig that did would leave both in
    place for as long as the process lives.
    """
    unlocks = "LOCK_UN" in call.arguments or "F_UNLCK" in call.arguments
    return not unlocks and not (call.point.call == "close" and call.path.endswith("/index.json"))


def assert_survives(place: Place, scene: Scene, call: Seen, error: str) -> None:
    """Refuse one call of a life, and hold it to the rule."""
    place.put_back()
    orders = scene.orders(place, tries=TRIES)
    report = place.refuse(orders, call.point, error)
    assert not report.unforeseen, f"it ended with\n{report.unforeseen}"
    for event in report.told():
        if event["event"] not in HARMLESS | {"problem"}:
            where = event.get("path", "") + event.get("reason", "")
            assert event["event"] in {"postponed", "unreadable", "waiting_to_start", "run_unreadable"}, event
            assert "/" in where, f"it does not say where: {event}"
            assert "modelwarden's own" not in where, event
    again = synced_again(seen(place.report), str(place.archive))
    assert again == [], f"synced again after a sync that failed: {again}"
    place.assert_as_left()
    if report.ended:
        assert scene.stop == "start", f"it ended: {report.ended}"
        assert report.ended.startswith(str(place.disk)), f"it does not say where: {report.ended}"
        place.assert_recovers()
    else:
        assert report.dealt == [path for batch in orders.batches for path in batch], "it gave up"
        place.assert_survived()


def synced_again(calls: Sequence[Seen], archive: str) -> list[str]:
    """The files in the archive that were synced once more after a sync of theirs failed, and not made anew before.

    The archive's own folder can't be made anew: it is synced again, after all that is in it was looked at; and the
    shelf of rejected files, after a new entry was made. What SQLite does with its own is its own affair. A sync that a
    signal interrupted did not fail: it ended before it began.
    """
    folders = {archive, f"{archive}/rejected"}
    failed: set[str] = set()
    again = []
    for call in calls:
        if call.point.call == "openat" and "O_EXCL" in call.arguments and not call.error:
            failed.discard(call.path)
        if call.point.call == "sync_file_range" and call.error not in {"", "EINTR"}:
            failed.add(call.path)  # the fsync after it may return 0 over lost data
        if call.point.call in {"fsync", "fdatasync"} and not of_the_state(call) and call.path not in folders:
            if call.path in failed:
                again.append(call.path)
            if call.error not in {"", "EINTR"}:
                failed.add(call.path)
    return again
