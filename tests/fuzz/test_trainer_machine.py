"""The model test: a trainer played by chance against a real daemon, and the mutants that it must catch.

The rule: the games are the same in every run, so that a failure is no matter of luck; only the moments are chance.
"""

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from fuzz.trainer import NOWHERE, SUMMARIES, Trainer
from modelwarden.fingerprint import Fingerprint
from modelwarden.intake.reading import Whole, read_whole
from processes import drop, make_site, modelwarden, outbox_of
from rigs.mutants import Mutant

GAMES: Final = 25
STEPS: Final = 24

SETTINGS: Final = settings(
    max_examples=GAMES,
    stateful_step_count=STEPS,
    derandomize=True,
    phases=[Phase.generate],  # making a game of minutes smaller takes hours; its steps are printed as they were
    report_multiple_bugs=False,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)

PATIENCE_WITH_MUTANTS: Final = 8.0
"""Seconds until a mutant is given up; what it does not do at once it never does."""


@pytest.mark.fuzz
@pytest.mark.timeout(900)
def test_trainer_played_by_chance_has_each_summary_archived_once(tmp_path: Path) -> None:
    """Whatever is done to the files and to the daemon: what stood is a run, nothing else is, and each is owed once."""
    run_state_machine_as_test(lambda: Trainer(tmp_path), settings=SETTINGS)  # type: ignore[arg-type]


# -- What the games are too coarse for --------------------------------------------------------------------------------


def test_state_deleted_no_old_rejection_is_announced_again(tmp_path: Path) -> None:
    """Whoever deletes the state file gets no old messages: not of runs, and not of rejected files either."""
    site = make_site(tmp_path, NOWHERE)
    drop(b'{"models": []}', site.out)
    assert modelwarden("run", "--once", "--no-courier", "--config", site.config).returncode == 1
    assert len(outbox_of(site.state)) == 1
    shutil.rmtree(site.state)
    modelwarden("run", "--once", "--no-courier", "--config", site.config)
    assert outbox_of(site.state) == []


def test_file_rewritten_amid_a_read_is_not_taken_for_dealt_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also with its time put back: old bytes with the fingerprint of the new would hide the new for good."""
    path = tmp_path / "summary.json"
    path.write_bytes(SUMMARIES[0])
    before = path.stat()
    os_read = os.read

    def read(descriptor: int, length: int) -> bytes:
        data = os_read(descriptor, length)
        monkeypatch.undo()
        path.write_bytes(SUMMARIES[1])
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        return data

    monkeypatch.setattr(os, "read", read)
    reading = read_whole(str(path), 1 << 20)
    assert not isinstance(reading, Whole) or (reading.data == SUMMARIES[1]) == (
        reading.fingerprint == Fingerprint.of(path.stat())
    )


# -- Mutants ----------------------------------------------------------------------------------------------------------


def new_content(trainer: Trainer) -> None:
    """New bytes under a name that is known, by a rename and by another write."""
    trainer.rename_into_place("out/x.json", SUMMARIES[0])
    trainer.settle()
    trainer.rename_into_place("out/x.json", SUMMARIES[1])
    trainer.settle()
    trainer.write("out/x.json", SUMMARIES[2])
    trainer.settle()


def old_time(trainer: Trainer) -> None:
    """New bytes of the same size, and the time put back, while nobody looks: a look between the two sees them."""
    trainer.write("out/a/x.json", SUMMARIES[0])
    trainer.settle()
    trainer.stop()
    trainer.rewrite_with_the_old_time(0, SUMMARIES[1])
    trainer.start()
    trainer.settle()


def down_time(trainer: Trainer) -> None:
    """A file that comes while nobody looks."""
    trainer.stop()
    trainer.write("out/a/b/x.json", SUMMARIES[0])
    trainer.start()
    trainer.settle()


def out_of_sight(trainer: Trainer) -> None:
    """Files that are hidden, temporary or elsewhere."""
    for number, place in enumerate(("out/.hidden/x.json", "out/.x.json", "out/x.json.tmp", "elsewhere/x.json")):
        trainer.write(place, SUMMARIES[number])
    trainer.settle()


def copies(trainer: Trainer) -> None:
    """The same bytes under three names."""
    trainer.write("out/x.json", SUMMARIES[0])
    trainer.settle()
    trainer.copy(0, "out/a/y.json")
    trainer.hard_link(0, "out/c/z.json")
    trainer.settle()


def lost_state(trainer: Trainer) -> None:
    """A daemon that no longer knows what it announced."""
    trainer.write("out/x.json", SUMMARIES[0])
    trainer.settle()
    trainer.stop()
    trainer.delete_state()
    trainer.start()
    trainer.settle()


def in_parts(trainer: Trainer) -> None:
    """A writer who rests for longer than an unfinished file is waited for."""
    trainer.begin_to_write("out/x.json", SUMMARIES[0])
    for place in ("out/y.json", "out/z.json"):  # to be rejected takes the others as long, and they came later
        trainer.write(place, place.encode())
        trainer.settle()
    trainer.go_on_writing(0, 1)
    trainer.settle()


MUTANTS: Final[Sequence[tuple[Mutant, Callable[[Trainer], None], str]]] = (
    (
        Mutant(
            "renames-unnoticed",
            "intake/watch.py",
            "    | InotifyConstants.IN_MOVED_TO\n",
            "",
        ),
        new_content,
        "not archived",
    ),
    (
        Mutant(
            "ledger-by-path",
            "state/ledger.py",
            "return known is not None and known[0] == _text(fingerprint)",
            "return known is not None",
        ),
        new_content,
        "not archived",
    ),
    (
        Mutant("change-time-left-out", "fingerprint.py", "st_mtime_ns, status.st_ctime_ns", "st_mtime_ns, 0"),
        old_time,
        "not archived",
    ),
    (
        Mutant(
            "never-scans",
            "service/discovery.py",
            "if self._walk is None and (self._is_behind or time.monotonic() >= self.scan_at):",
            "if not self._roots:",
        ),
        down_time,
        "not archived",
    ),
    (
        Mutant(
            "hidden-files-taken",
            "intake/scan.py",
            'return name.startswith(".") or name.endswith(TEMPORARY_ENDINGS)',
            "return name.endswith(TEMPORARY_ENDINGS)",
        ),
        out_of_sight,
        "no daemon can have seen it whole",
    ),
    (
        Mutant(
            "copies-archived-again",
            "archive/publishing.py",
            "name = None if self._unsure else self._index.find(sha256)",
            "name = None",
        ),
        copies,
        "archived twice",
    ),
    (
        Mutant(
            "old-runs-announced",
            "pipeline/recording.py",
            "announced = run.daemon_id != self._database.daemon_id or ",
            "announced = ",
        ),
        lost_state,
        "owed, and old",
    ),
    (
        Mutant(
            "sources-deleted",
            "service/processing.py",
            "if self._delete_archived and fingerprint is not None:",
            "if fingerprint is not None:",
        ),
        new_content,
        "the daemon changed the trainer's files",
    ),
    (
        Mutant(
            "given-up-for-good",
            "state/ledger.py",
            "known is not None and known[0] == _text(fingerprint)",
            "known is not None and (not known[1] or known[0] == _text(fingerprint))",
        ),
        in_parts,
        "not archived",
    ),
)
"""Each with the game that shows it, and the complaint by which it is caught."""


@pytest.mark.fuzz
@pytest.mark.parametrize(("mutant", "game", "complaint"), MUTANTS, ids=[mutant.name for mutant, *_ in MUTANTS])
def test_mutant_of_the_daemon_is_caught_by_the_trainer(
    mutant: Mutant, game: Callable[[Trainer], None], complaint: str, tmp_path: Path
) -> None:
    """A game that the product plays to its end is lost by a daemon with one mistake, and for that mistake."""
    play(game, Trainer(tmp_path))
    product = mutant.make(tmp_path / "product")
    with pytest.raises(AssertionError, match=complaint):
        play(game, Trainer(tmp_path, product, PATIENCE_WITH_MUTANTS))


def play(game: Callable[[Trainer], None], trainer: Trainer) -> None:
    """A game that is not left to chance, from its beginning to its end."""
    try:
        trainer.begin()
        game(trainer)
    finally:
        trainer.teardown()
