"""Mutants that the watch cases must catch: each is the product with one precaution of the watching left out.

The rule: a mutant names the case that is about its fault, and that case, run as it stands against the mutant, fails.
One that survives means that the case is blind.
"""

from pathlib import Path
from typing import Final, NamedTuple

import pytest

from rigs.failing_tests import assert_fails
from rigs.mutants import Mutant

pytestmark = pytest.mark.cases

SHORT_DEADLINE: Final = 5
"""Seconds that a case waits for what a mutant never does."""


class Caught(NamedTuple):
    """A mutant, and the part of a case's name that tells which one is to catch it."""

    mutant: Mutant
    case: str


CASES: Final = (
    Caught(
        Mutant(
            "gives_a_file_up_at_once",
            "intake/settling.py",
            "        if now >= given_up_at:",
            "        if True:",
        ),
        "case_02",
    ),
    Caught(
        Mutant(
            "takes_the_names_that_a_writer_uses_before_the_final_one",
            "intake/scan.py",
            'TEMPORARY_ENDINGS: Final = (".tmp", ".part", "~")',
            'TEMPORARY_ENDINGS: Final = ("?",)',
        ),
        "case_04",
    ),
    Caught(
        Mutant(
            "does_not_hear_of_renames",
            "intake/watch.py",
            "    | InotifyConstants.IN_MOVED_TO\n",
            "",
        ),
        "case_06",
    ),
    Caught(
        Mutant(
            "deletes_by_name_what_it_has_looked_at",
            "intake/removal.py",
            "        os.rename(path, aside)\n",
            '        __import__("time").sleep(0.005)\n        os.unlink(path)\n        return Removed()\n',
        ),
        "next_summary_renamed_over",
    ),
    Caught(
        Mutant(
            "blames_a_summary_for_what_happens_after_it_was_judged",
            "service/attempts.py",
            "        finally:\n            self.forgive(sha256)\n",
            "        finally:\n            pass\n",
        ),
        "only_waits_for_the_lock",
    ),
    Caught(
        Mutant(
            "believes_an_index_whoever_put_it_there",
            "archive/publishing.py",
            "        elif self._index.was_written_under_the_lock():",
            "        elif True:",
        ),
        "older_index_put_back_beside",
    ),
    Caught(
        Mutant(
            "does_not_hear_of_closes",
            "intake/watch.py",
            "    | InotifyConstants.IN_CLOSE_WRITE\n",
            "",
        ),
        "case_09",
    ),
    Caught(
        Mutant(
            "reads_files_of_any_size",
            "intake/reading.py",
            "    if is_large or len(data) > max_bytes:",
            "    if len(data) < 0:",
        ),
        "case_14",
    ),
    Caught(
        Mutant(
            "takes_names_for_text",
            "intake/scan.py",
            "yield entry.path, Fingerprint.of(status)",
            "yield entry.path.encode().decode(), Fingerprint.of(status)",
        ),
        "case_15",
    ),
    Caught(
        Mutant(
            "takes_what_is_no_regular_file",
            "intake/scan.py",
            "                if stat.S_ISREG(status.st_mode):",
            "                if True:",
        ),
        "case_16",
    ),
    Caught(
        Mutant(
            "announces_what_another_state_archived",
            "pipeline/recording.py",
            "run.daemon_id != self._database.daemon_id or ",
            "",
        ),
        "case_21",
    ),
    Caught(
        Mutant(
            "runs_twice_on_one_state",
            "wiring/lock.py",
            "        lock.acquire(blocking=False)\n    except Timeout:",
            "        pass\n    except Timeout:",
        ),
        "case_24",
    ),
    Caught(
        Mutant(
            "never_gives_a_poison_file_up",
            "service/processing.py",
            "        if deaths < DEATHS_ALLOWED:",
            "        if True:",
        ),
        "case_25",
    ),
    Caught(
        Mutant(
            "does_not_listen_for_lost_events",
            "intake/watch.py",
            "        self._watch.note_everything(overflowed=True)",
            "        pass",
        ),
        "case_28",
    ),
    Caught(
        Mutant(
            "takes_no_note_of_a_dead_observer",
            "intake/watch.py",
            "        if self._reader is not None and not self._reader.is_alive():",
            "        if False:",
        ),
        "case_29",
    ),
    Caught(
        Mutant(
            "takes_a_watch_over_a_part_for_one_over_all",
            "intake/watch.py",
            "        if not self._refused:\n            return True",
            "        if True:\n            return True",
        ),
        "case_30",
    ),
    Caught(
        Mutant(
            "hears_its_own_reads",
            "intake/watch.py",
            "    InotifyConstants.IN_CREATE\n",
            "    InotifyConstants.IN_CREATE | InotifyConstants.IN_OPEN\n",
        ),
        "case_35",
    ),
    Caught(
        Mutant(
            "believes_that_a_folder_of_the_same_name_is_the_same",
            "intake/watch.py",
            "identity == self._identity and self._watch.is_read(self._reader)",
            "self._watch.is_read(self._reader)",
        ),
        "case_38",
    ),
    Caught(
        Mutant(
            "forgets_what_is_on_a_device_that_is_not_there",
            "service/processing.py",
            "if path not in seen and ledger.device(path) in devices]",
            "if path not in seen]",
        ),
        "case_41",
    ),
    Caught(
        Mutant(
            "follows_links_to_folders",
            "intake/scan.py",
            "entry.is_dir(follow_symlinks=False)",
            "entry.is_dir()",
        ),
        "case_43",
    ),
    Caught(
        Mutant(
            "trusts_the_events_of_a_network",
            "filesystems.py",
            '    return kind if kind in _NETWORK or kind.startswith("fuse") else None',
            "    return None",
        ),
        "case_44",
    ),
    Caught(
        Mutant(
            "concludes_from_a_walk_that_did_not_see_everything",
            "service/discovery.py",
            "        if not problems:\n",
            "        if True:\n",
        ),
        "case_45",
    ),
    Caught(
        Mutant(
            "forgets_a_file_that_it_may_not_read",
            "service/processing.py",
            "                self._settling.again(path, time.monotonic() + UNREADABLE_SECONDS)",
            "                self._settling.forget(path)",
        ),
        "case_46",
    ),
    Caught(
        Mutant(
            "tells_at_every_look_what_it_may_not_read",
            "service/processing.py",
            "        if known is None or known.reason != reason:",
            "        if True:",
        ),
        "case_47",
    ),
    Caught(
        Mutant(
            "forgets_what_the_disk_refused",
            "service/processing.py",
            "                self._settling.again(path, time.monotonic() + self.trouble_pause)",
            "                self._settling.forget(path)",
        ),
        "case_49",
    ),
    Caught(
        Mutant(
            "waits_by_the_clock_on_the_wall",
            "service/discovery.py",
            "import time\n",
            "import time as _time\nclass time:\n    monotonic = staticmethod(_time.time)\n"
            "    thread_time = _time.thread_time\n",
        ),
        "case_50",
    ),
    Caught(
        Mutant(
            "ends_where_the_lock_is_held_at_its_start",
            "service/lifecycle.py",
            '        except RetryLater as error:\n            log.warning("waiting_to_start"',
            '        except ZeroDivisionError as error:\n            log.warning("waiting_to_start"',
        ),
        "case_52",
    ),
    Caught(
        Mutant(
            "believes_an_index_that_somebody_replaced",
            "archive/index_file.py",
            "        return self._signature is not None and self._signature == self._look(self.path)",
            "        return True",
        ),
        "case_53",
    ),
    Caught(
        Mutant(
            "archives_what_another_daemon_archived",
            "archive/publishing.py",
            "            return AlreadyArchived(name)",
            "            pass",
        ),
        "case_54",
    ),
)


@pytest.mark.parametrize("caught", [pytest.param(each, id=each.mutant.name) for each in CASES])
def test_mutant_fails_its_case(tmp_path: Path, caught: Caught) -> None:
    """The case that is to notice this fault does."""
    assert_fails(caught.mutant, tmp_path, "cases", caught.case, deadline=SHORT_DEADLINE, marker="cases")
