"""Links are followed nowhere, and whoever left one is told so once; a long scan lets what is ready go before it."""

from pathlib import Path

import pytest

from modelwarden.fingerprint import Fingerprint
from modelwarden.intake.scan import Root
from modelwarden.intake.settling import Settling
from modelwarden.intake.watch import Hints
from modelwarden.service import discovery
from modelwarden.service.discovery import Discovery
from processes import drop, index_of, make_site, running_daemon
from summaries import GOOD, encoded, flat_summary


def test_links_that_lead_out_are_said_once_and_not_followed(tmp_path: Path) -> None:
    """A summary, a folder, at the start and later: none is archived; one line for what is found together."""
    site = make_site(tmp_path, intake="scan_every_seconds = 0.2", level="debug")
    outside = tmp_path / "outside"
    outside.mkdir()
    drop(encoded(flat_summary({"OUTSIDE": GOOD})), outside)
    (site.out / "one.json").symlink_to(outside / "summary.json")
    (site.out / "two.json").symlink_to(outside / "nowhere.json")
    (site.out / "folder").symlink_to(outside)
    (site.out / "notes.txt").symlink_to(outside / "summary.json")
    with running_daemon("--no-courier", "--config", site.config, log=site.log) as daemon:
        (first,) = daemon.wait_for("links_not_followed")
        assert (first["links"], first["level"]) == (3, "warning")
        assert first["leads_to"].startswith(str(outside))
        assert "watch the folder" in first["hint"]
        (site.out / "later.json").symlink_to(outside / "summary.json")
        _, second = daemon.wait_for("links_not_followed", 2)
        assert (second["links"], second["path"]) == (1, str(site.out / "later.json"))
        daemon.wait_for("scanned", len(daemon.events("scanned")) + 3)
        (site.out / "later.json").unlink()
        daemon.wait_for("scanned", len(daemon.events("scanned")) + 3)
        (site.out / "later.json").symlink_to(outside / "summary.json")
        daemon.wait_for("links_not_followed", 3)
        assert len(daemon.events("links_not_followed")) == 3
    assert index_of(site.archive) == []


def test_link_to_what_is_looked_at_anyway_is_not_worth_a_word(tmp_path: Path) -> None:
    """`latest.json` beside the runs, a folder that is watched itself, the archive: nothing is missed."""
    other = 'path = "other"\ncreate = true\n'
    watch = f'[[watch]]\npath = "out"\n[[watch]]\n{other}'
    site = make_site(tmp_path, watch=watch, intake="scan_every_seconds = 0.2", level="debug")
    drop(encoded(flat_summary({"A": GOOD})), site.out, "run_1.json")
    (site.out / "latest.json").symlink_to("run_1.json")
    (site.out / "again").symlink_to(site.out)
    (site.out / "other").symlink_to(tmp_path / "other")
    (site.out / "archive").symlink_to(site.archive)
    with running_daemon("--no-courier", "--config", site.config, log=site.log) as daemon:
        daemon.wait_for("run_archived")
        daemon.wait_for("scanned", len(daemon.events("scanned")) + 2)
        assert daemon.events("links_not_followed") == []
    assert [entry["source"] for entry in index_of(site.archive)] == [str(site.out / "run_1.json")]


class Deaf:
    """A watch that hears nothing but what a test says."""

    def __init__(self) -> None:
        self.hints = Hints()

    def drain(self) -> Hints:
        hints, self.hints = self.hints, Hints()
        return hints


class Processing:
    """Deals with nothing, and is told what is gone."""

    def __init__(self) -> None:
        self.seen: set[str] = set()

    def is_dealt_with(self, _path: str, _fingerprint: Fingerprint) -> bool:
        return False

    def forget_gone(self, seen: set[str], _devices: set[int]) -> None:
        self.seen = seen

    def say_unreadable(self, path: str, reason: str) -> None:
        raise AssertionError(path, reason)


@pytest.fixture
def deaf() -> Deaf:
    """A watch."""
    return Deaf()


def looker(folder: Path, watch: Deaf, processing: Processing) -> Discovery:
    """A discovery on one folder."""
    return Discovery([Root(str(folder))], (), watch, Settling(0.0, 1.0), processing, scan_every=1000.0)  # type: ignore[arg-type]


def test_long_scan_lets_what_is_ready_go_before_it(tmp_path: Path, deaf: Deaf, monkeypatch: pytest.MonkeyPatch) -> None:
    """A walk stops after a slice, is due again at once, and concludes at its end what a walk in one piece does."""
    names = [f"{number}.json" for number in range(3 * discovery.BREATH)]
    for name in names:
        (tmp_path / name).write_bytes(b"")
    monkeypatch.setattr(discovery, "SLICE_SECONDS", -1.0)
    processing = Processing()
    found = looker(tmp_path, deaf, processing)

    turns = 0
    while not found.has_scanned:
        found.look()
        turns += 1
        assert turns <= 100
        assert found.scan_at == 0.0 or found.has_scanned, "the loop must not sleep"

    assert turns > 3
    assert {Path(path).name for path in processing.seen} == set(names)
    assert found.scan_at > 0.0


def test_what_comes_while_a_scan_is_under_way_is_scanned_for_again(
    tmp_path: Path, deaf: Deaf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An overflow in the middle of a walk: the walk may have passed what was lost, so another one follows."""
    for number in range(2 * discovery.BREATH):
        (tmp_path / f"{number}.json").write_bytes(b"")
    monkeypatch.setattr(discovery, "SLICE_SECONDS", -1.0)
    processing = Processing()
    found = looker(tmp_path, deaf, processing)
    found.look()
    deaf.hints = Hints(rescan=True)
    walks = 0

    def count(_seen: set[str], _devices: set[int]) -> None:
        nonlocal walks
        walks += 1

    monkeypatch.setattr(processing, "forget_gone", count)
    while found.scan_at == 0.0:
        found.look()

    assert walks == 2
