"""A link in a watched folder is followed nowhere, and whoever left it is told so once, with what to do."""

from pathlib import Path

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
