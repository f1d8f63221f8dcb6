"""Mutants that the crash rigs must catch: each is the product with one step left out or put in a wrong place.

The rule: a mutant is tried at places where its fault shows, and must be caught by what the fault does, told by the
words of the violation, not by failing where nobody disturbs it. One that survives means that its rig is blind.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from modelwarden.gate.timestamp import is_run_name
from rigs.crash_scenes import SCENES, playing, publishes, replaces_the_index
from rigs.crash_subject import Orders
from rigs.lives import Subjects, subjects
from rigs.mutants import Mutant
from rigs.refusals import assert_survives
from rigs.system_calls import Point, Seen
from rigs.two_daemons import LATE, End, Pair, goes_on, killed, pair

pytestmark = pytest.mark.crash

Choose = Callable[[Seen], bool]
Trial = Callable[[Subjects], None]


def killing_at(scene: str, choose: Choose, most: int = 3) -> Trial:
    """Kill it before the first few calls that are chosen, in a scene of the kill sweep."""

    def trial(lives: Subjects) -> None:
        with playing(SCENES[scene], lives) as place:
            orders = SCENES[scene].orders(place)
            points = [call.point for call in place.calls_of(orders) if choose(call)]
            assert points, "the mutant makes no such call"
            for point in points[:most]:
                place.put_back()
                place.kill(orders, point)
                place.assert_as_left()
                place.assert_recovers()

    return trial


def starting(scene: str) -> Trial:
    """Start it after what a kill left."""

    def trial(lives: Subjects) -> None:
        with playing(SCENES[scene], lives) as place:
            place.assert_recovers()

    return trial


def refusing_at(scene: str, choose: Choose, error: str, *, which: int = 0) -> Trial:
    """Refuse one of the calls that are chosen, in a scene of the errno sweep."""

    def trial(lives: Subjects) -> None:
        with playing(SCENES[scene], lives) as place:
            calls = [call for call in place.calls_of(SCENES[scene].orders(place)) if choose(call)]
            assert calls, "the mutant makes no such call"
            assert_survives(place, SCENES[scene], calls[which], error)

    return trial


def beside_another(root: str, choose: Choose, end: End) -> Trial:
    """Stop it after the first call that is chosen, while another daemon goes on."""

    def trial(lives: Subjects) -> None:
        with pair(lives, root=root) as both:
            both.play(first_call(both, both.walk(), choose), end, starts=False)

    return trial


def refusing_beside_another(root: str, choose: Choose, error: str) -> Trial:
    """Refuse the first call that is chosen, and let another daemon go on before it tries again."""

    def trial(lives: Subjects) -> None:
        with pair(lives, root=root) as both:
            both.refuse(first_call(both, both.walk(), choose), error)

    return trial


def refusing_a_start_beside_another(root: str, choose: Choose, error: str) -> Trial:
    """Refuse the first call that is chosen of a start after half a commit, and let another daemon start meanwhile."""

    def trial(lives: Subjects) -> None:
        with pair(lives, root=root) as both:
            both.leave_half_a_commit()
            both.refuse_start(first_call(both, both.start(), choose), error)

    return trial


def first_call(both: Pair, orders: Orders, choose: Choose) -> Point:
    """The first that is chosen of an undisturbed life; then all is as before it."""
    call = next(call for call in both.place.calls_of(orders) if choose(call))
    both.place.put_back()
    return call.point


def writes_into_a_run(call: Seen) -> bool:
    return call.changes_files and is_run_name(Path(call.path).parent.name)


def writes_the_index(call: Seen) -> bool:
    return call.point.call == "pwrite64" and call.path.endswith("/index.json")


def syncs_a_staged_file(call: Seen) -> bool:
    return call.point.call == "fsync" and call.path.endswith("/summary.json")


def syncs_the_archive(call: Seen) -> bool:
    return call.point.call == "fsync" and call.path.endswith("/archive")


def makes_the_report(call: Seen) -> bool:
    return call.point.call == "openat" and call.path.endswith("/recommendations.md")


def reads_the_last_file(call: Seen) -> bool:
    return call.point.call == "openat" and call.path.endswith(f"/{LATE[0]}")


class Case(NamedTuple):
    """A mutant, where it is tried, and the violation that must be found."""

    mutant: Mutant
    trial: Trial
    violation: str


CASES: Final = (
    Case(
        Mutant(
            "acknowledges_before_the_rename",
            "pipeline/walk.py",
            "            committed, changes = self.archive.commit(",
            "            self.recorder.record([\n"
            "                Dealt(each.found.path, each.found.fingerprint, each.sha256, run.run.timestamp, None)\n"
            "                for each, run in staged\n"
            "            ])\n"
            "            committed, changes = self.archive.commit(",
        ),
        killing_at("a_file", publishes),
        "is acknowledged as",
    ),
    Case(
        Mutant(
            "names_a_run_before_its_files_are_in_it",
            "archive/tree.py",
            "        durable.rename_new(folder, self.path_of(name))\n",
            "        shutil.copytree(folder, self.path_of(name))\n        self.discard(folder)\n",
        ),
        killing_at("a_file", writes_into_a_run),
        "archive/[0-9]{8}_[0-9]{6}",
    ),
    Case(
        Mutant(
            "starts_without_reconciling",
            "pipeline/upkeep.py",
            "changes, owed = self._reconcile(rebuild=False)",
            "changes, owed = Changes(), 0",
        ),
        starting("start_after_renames"),
        "index.json is not what the archive holds",
    ),
    Case(
        Mutant(
            "does_not_look_for_the_marker",
            "archive/publishing.py",
            "        elif os.path.lexists(self._marker):\n",
            "        elif False:\n",
        ),
        beside_another("other", publishes, killed),
        "index.json is not what the archive holds",
    ),
    Case(
        Mutant(
            "leaves_no_marker",
            "archive/publishing.py",
            "        durable.leave_marker(self._marker, self._folder)\n",
            "",
        ),
        killing_at("a_file", replaces_the_index),
        "index.json lacks runs, and nothing tells so",
    ),
    Case(
        Mutant(
            "removes_the_marker_before_the_index_is_written",
            "archive/publishing.py",
            "                self._index.write()\n            except",
            "                self._remove_marker()\n                self._index.write()\n            except",
        ),
        killing_at("a_file", replaces_the_index),
        "index.json lacks runs, and nothing tells so",
    ),
    Case(
        Mutant(
            "writes_the_index_before_the_rename",
            "archive/publishing.py",
            "        durable.leave_marker(self._marker, self._folder)\n",
            "        durable.leave_marker(self._marker, self._folder)\n"
            "        for staged in batch:\n"
            "            self._index.add(staged.run.timestamp, staged.run.sha256, encode_entry(staged.run))\n"
            "        self._index.write()\n"
            "        for staged in batch:\n"
            "            self._index.discard(staged.run.timestamp)\n",
        ),
        killing_at("a_file", publishes),
        "index.json lists what is not there",
    ),
    Case(
        Mutant(
            "does_not_look_for_duplicates_under_the_lock",
            "archive/publishing.py",
            "        if (name := self.find(staged.run.sha256)) is not None:\n",
            "        if (name := None) is not None:\n",
        ),
        beside_another("out", syncs_a_staged_file, goes_on),
        "the same bytes are archived twice",
    ),
    Case(
        Mutant(
            "looks_after_a_failed_commit_only_where_nobody_else_did",
            "archive/publishing.py",
            "        if self._unsure:\n",
            "        if self._unsure and os.path.lexists(self._marker):\n",
        ),
        refusing_beside_another("other", writes_the_index, "ENOSPC"),
        "the same bytes are archived twice",
    ),
    Case(
        Mutant(
            "does_not_look_whether_another_wrote_the_index",
            "archive/publishing.py",
            "        elif self._index.is_current():\n",
            "        elif True:\n",
        ),
        refusing_a_start_beside_another("other", reads_the_last_file, "EIO"),
        "index.json is not what the archive holds",
    ),
    Case(
        Mutant(
            "takes_no_lock",
            "archive/index.py",
            "                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)\n",
            "                pass\n",
        ),
        beside_another("other", writes_the_index, goes_on),
        "index.json is not what the archive holds",
    ),
    Case(
        Mutant(
            "never_sweeps",
            "pipeline/upkeep.py",
            "        swept = self._archive.tree.sweep()\n",
            "        swept = 0\n",
        ),
        killing_at("a_file", publishes),
        "a staging folder was not swept",
    ),
    Case(
        Mutant(
            "forgets_the_announcement_of_what_it_finds_archived",
            "pipeline/recording.py",
            "        self._appeared |= dict.fromkeys(changes.appeared)\n",
            "",
        ),
        starting("start_after_renames"),
        "the catalog is not what the archive holds",
    ),
    Case(
        Mutant(
            "swallows_a_refusal_while_it_stages",
            "archive/tree.py",
            "        self._open[path] = durable.write_unsynced_file(path, data)\n",
            "        try:\n"
            "            self._open[path] = durable.write_unsynced_file(path, data)\n"
            "        except RetryLater:\n"
            "            open(path, 'ab').close()  # one that is not there is noticed when it is published\n",
        ),
        refusing_at("a_file", makes_the_report, "ENOSPC"),
        "archive/[0-9]{8}_[0-9]{6}",
    ),
    Case(
        Mutant(
            "syncs_a_file_again_whose_sync_failed",
            "durable.py",
            "        os.fsync(descriptor)\n",
            "        try:\n"
            "            os.fsync(descriptor)\n"
            "        except OSError:\n"
            "            os.fsync(descriptor)\n",
        ),
        refusing_at("a_file", syncs_a_staged_file, "EIO"),
        "synced again",
    ),
    Case(
        Mutant(
            "forgets_what_a_failed_commit_published",
            "archive/publishing.py",
            "                self._note(appeared=published)  # they are there, and nobody was told so\n",
            "",
        ),
        refusing_at("a_file", syncs_the_archive, "EIO", which=1),  # behind the index, which therefore lists the run
        "the catalog is not what the archive holds",
    ),
)


@pytest.mark.parametrize("case", [pytest.param(case, id=case.mutant.name) for case in CASES])
def test_mutant_is_caught(tmp_path: Path, case: Case) -> None:
    """The rig that is to notice this fault does."""
    with subjects(case.mutant.make(tmp_path / "mutant")) as lives, pytest.raises(AssertionError, match=case.violation):
        case.trial(lives)
