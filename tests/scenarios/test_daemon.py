"""The running daemon: what is left in a watched folder becomes one whole run, whatever happens meanwhile."""

import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from invariants import (
    RUN_FILES,
    assert_archive_whole,
    assert_nothing_half_made,
    assert_owed_once,
    assert_second_start_changes_nothing,
    sha256,
    snapshot,
)
from processes import (
    Daemon,
    Site,
    destination,
    drop,
    index_of,
    make_site,
    modelwarden,
    outbox_of,
    running_daemon,
    until,
)
from servers import http_server
from summaries import BAD, GOOD, encoded, flat_summary, random_summary, series_summary

NOWHERE = destination("team", "json://127.0.0.1:9/hook", "APPROVED", "REVIEW", "DROP", "REJECTED")
"""A destination for daemons that run without a courier: rows are owed, nothing is sent."""

C_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


class Warden:
    """A running daemon that several tests share, and the bytes that they had archived.

    Each test brings summaries of its own; at the end the archive must hold exactly those.
    """

    def __init__(self, site: Site, daemon: Daemon) -> None:
        self.site = site
        self.daemon = daemon
        self.expected: list[bytes] = []
        self._count = 0

    def summary(self, **fields: Any) -> bytes:
        """New bytes that are to be archived, with a timestamp of their own."""
        self._count += 1
        data = encoded(random_summary(self._count, models=3, points=4) | fields)
        self.expected.append(data)
        return data

    def folder(self) -> Path:
        """A new folder in the watched one."""
        self._count += 1
        folder = self.site.out / f"case-{self._count}"
        folder.mkdir()
        return folder

    def archived(self, data: bytes) -> dict[str, Any]:
        """Wait until these bytes are archived; return the index entry."""
        return until(lambda: self.entries(data), f"a run of {data[:80]!r}")[0]

    def entries(self, data: bytes) -> list[dict[str, Any]]:
        """The index entries of these bytes: none or one."""
        return [entry for entry in index_of(self.site.archive) if entry["sha256"] == sha256(data)]

    def caught_up(self) -> None:
        """Wait until every event so far was followed: one more summary, behind all others, has arrived."""
        data = self.summary()
        self._count += 1
        drop(data, self.site.out, f"sentinel-{self._count}.json")
        self.archived(data)

    def logged(self, event: str, path: Path) -> list[dict[str, Any]]:
        """The events of that name about a path."""
        return [each for each in self.daemon.events(event) if str(path) in {each.get("path"), each.get("source")}]


@pytest.fixture(scope="module")
def warden(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warden]:
    """A daemon whose archive lies inside the watched folder; it finds files by events, not by its timer."""
    folder = tmp_path_factory.mktemp("warden")
    site = make_site(folder, NOWHERE, watch='[[watch]]\npath = "."\n', level="debug")
    with running_daemon("--no-courier", "--config", site.config, log=site.log) as daemon:
        shared = Warden(site, daemon)
        yield shared
        entries = assert_archive_whole(site.archive, shared.expected)
        assert not [entry for entry in entries if str(site.archive) in entry["source"]]
        assert daemon.stop() == 0
    assert_nothing_half_made(site.archive)


def written(data: bytes, folder: Path) -> Path:
    path = folder / "summary.json"
    path.write_bytes(data)
    return path


def written_slowly(data: bytes, folder: Path) -> Path:
    path = folder / "summary.json"
    step = len(data) // 10 + 1
    with path.open("wb", buffering=0) as stream:
        for start in range(0, len(data), step):
            stream.write(data[start : start + step])
            time.sleep(0.04)  # a slow writer: ten chunks take twice the settle time
    return path


def copied(data: bytes, folder: Path) -> Path:
    source = folder.parent / f".{folder.name}"
    source.write_bytes(data)
    return Path(shutil.copy2(source, folder / "summary.json"))


def renamed_inside(data: bytes, folder: Path) -> Path:
    return drop(data, folder)


def renamed_in(data: bytes, folder: Path) -> Path:
    outside = folder.parents[2] / f"{folder.name}.json"
    outside.write_bytes(data)
    return outside.rename(folder / "summary.json")


def hard_linked(data: bytes, folder: Path) -> Path:
    temporary = folder / ".temporary"
    temporary.write_bytes(data)
    os.link(temporary, folder / "summary.json")
    temporary.unlink()
    return folder / "summary.json"


def in_new_subfolders(data: bytes, folder: Path) -> Path:
    deep = folder / "a" / "b" / "c"
    deep.mkdir(parents=True)
    return written(data, deep)


def with_its_folder(data: bytes, folder: Path) -> Path:
    outside = folder.parents[2] / f"{folder.name}-moved"
    outside.mkdir()
    written(data, outside)
    return outside.rename(folder / "moved") / "summary.json"


ARRIVALS = [
    written,
    written_slowly,
    copied,
    renamed_inside,
    renamed_in,
    hard_linked,
    in_new_subfolders,
    with_its_folder,
]


@pytest.mark.parametrize("arrive", ARRIVALS, ids=lambda arrive: arrive.__name__)
def test_summary_arriving_in_any_manner_becomes_one_run(warden: Warden, arrive: Callable[[bytes, Path], Path]) -> None:
    """However a file comes to be there, it is one run with three files, one index entry and one message owed."""
    data = warden.summary()
    folder = warden.folder()
    path = arrive(data, folder)
    entry = warden.archived(data)
    run = warden.site.archive / entry["timestamp"]
    assert {each.name for each in run.iterdir()} == RUN_FILES
    assert (run / "summary.json").read_bytes() == data == path.read_bytes()
    warden.caught_up()
    assert len(warden.logged("run_archived", path)) == 1
    assert _owed(warden, f"run:{sha256(data)[:16]}") == [("team", "pending")]


def _owed(warden: Warden, event: str) -> list[tuple[str, str]]:
    rows = outbox_of(warden.site.state)
    return [(row["destination"], row["status"]) for row in rows if row["event"] == event]


def test_summary_in_the_layout_of_lists_is_judged_by_its_last_values(warden: Warden) -> None:
    """The origin's trainer writes lists over validation points; the run says what their last values are worth."""
    data = encoded(
        series_summary(
            {
                "AAPL": [(0.5, 1.2, 0.6, 0.2), (0.91, 2.4, 0.9, 0.04)],
                "MSFT": [(0.91, 2.4, 0.9, 0.04), (0.2, 0.8, 0.4, 0.3)],
            },
            timestamp="20240607_080910",
        )
    )
    warden.expected.append(data)
    drop(data, warden.folder())
    entry = warden.archived(data)
    assert entry["timestamp"] == "20240607_080910"
    counts = {name: entry[name] for name in ("models", "approved_count", "review_count", "dropped_count")}
    assert counts == {"models": 2, "approved_count": 1, "review_count": 0, "dropped_count": 1}
    document = json.loads((warden.site.archive / entry["timestamp"] / "model_assessments.json").read_bytes())
    assert {model["symbol"]: model["classification"] for model in document["models"]} == {
        "AAPL": "APPROVED",
        "MSFT": "DROP",
    }


def test_two_runs_of_one_timestamp_are_both_kept(warden: Warden) -> None:
    """A name that is taken by other content gets the next suffix."""
    folder = warden.folder()
    for position, name in enumerate(("20230405_060708", "20230405_060708_2", "20230405_060708_3")):
        data = warden.summary(timestamp="20230405_060708")
        drop(data, folder, f"{position}.json")
        assert warden.archived(data)["timestamp"] == name


def test_same_bytes_under_other_names_are_one_run(warden: Warden) -> None:
    """A copy, a second hard link and a renamed source are no new runs."""
    data = warden.summary()
    folder = warden.folder()
    first = drop(data, folder)
    name = warden.archived(data)["timestamp"]
    drop(data, folder, "copy.json")
    os.link(first, folder / "link.json")
    first.rename(folder / "renamed.json")
    warden.caught_up()
    assert [entry["timestamp"] for entry in warden.entries(data)] == [name]
    assert _owed(warden, f"run:{sha256(data)[:16]}") == [("team", "pending")]


@pytest.mark.parametrize("rewrite", [written, renamed_inside], ids=["in_place", "renamed_over"])
def test_rewritten_summary_is_a_second_run(warden: Warden, rewrite: Callable[[bytes, Path], Path]) -> None:
    """New content under an archived name is a run of its own, and the first one stays."""
    folder = warden.folder()
    first, second = warden.summary(), warden.summary()
    drop(first, folder)
    one = warden.archived(first)
    rewrite(second, folder)
    two = warden.archived(second)
    assert one["source"] == two["source"]
    assert warden.entries(first) == [one]


def test_unfinished_summary_is_archived_once_when_it_is_finished(warden: Warden) -> None:
    """A file that does not parse yet may still be being written; finished, it is one run and was never rejected."""
    data = warden.summary()
    path = warden.folder() / "summary.json"
    with path.open("wb", buffering=0) as stream:
        stream.write(data[:40])
        until(lambda: warden.logged("not_ready", path), "the daemon has looked at the half")
        stream.write(data[40:])
    warden.archived(data)
    warden.caught_up()
    assert len(warden.logged("run_archived", path)) == 1
    assert warden.logged("summary_rejected", path) == []


def test_malformed_file_is_rejected_once_with_its_reason(warden: Warden) -> None:
    """What never parses is kept as it was found, with the reason, and one message is owed for it."""
    data = b'{"models": [{"symbol": "AAPL", "final_fitness": '
    path = written(data, warden.folder())
    until(lambda: warden.logged("summary_rejected", path), "the rejection")
    kept = warden.site.archive / "rejected" / sha256(data)[:16]
    assert (kept / "as_found").read_bytes() == data == path.read_bytes()
    reason = json.loads((kept / "reason.json").read_bytes())
    assert reason["path"] == str(path)
    assert reason["reason"]
    assert _owed(warden, f"rejected:{kept.name}") == [("team", "pending")]


def test_rejected_bytes_that_come_back_are_announced_once(warden: Warden) -> None:
    """The same bytes at another time or under another name are looked at again, and owed no second message."""
    data = b'{"models": [], "note": "nothing in it"}'
    path = drop(data, warden.folder())
    until(lambda: warden.logged("summary_rejected", path), "the rejection")
    drop(data, path.parent)
    until(lambda: len(warden.logged("summary_rejected", path)) == 2, "the second look")
    drop(data, path.parent, "copy.json")
    warden.caught_up()
    assert [each["again"] for each in warden.logged("summary_rejected", path)] == [False, True]
    assert _owed(warden, f"rejected:{sha256(data)[:16]}") == [("team", "pending")]


def test_json_that_is_no_summary_is_rejected_by_its_place(warden: Warden) -> None:
    """A reason names the place in the file, and the corrected file is a run."""
    folder = warden.folder()
    drop(encoded(flat_summary({"AAPL": GOOD | {"final_pf": "high"}}, timestamp="20220101_000000")), folder)
    until(lambda: warden.logged("summary_rejected", folder / "summary.json"), "the rejection")
    (event,) = warden.logged("summary_rejected", folder / "summary.json")
    assert "models[0].final_pf" in event["reason"]
    corrected = warden.summary()
    drop(corrected, folder)
    assert warden.archived(corrected)["source"] == str(folder / "summary.json")


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (b"caf\xe9.json", "caf\\xe9.json"),
        (b"two\nlines.json", "two\nlines.json"),
        ("säge 🚀.json".encode(), "säge 🚀.json"),
    ],
    ids=["not_utf8", "newline", "emoji"],
)
def test_strange_file_name_is_archived_and_told_apart(warden: Warden, name: bytes, shown: str) -> None:
    """A name on disk is bytes: what is no UTF-8 is archived all the same, and written so that a person can tell it."""
    data = warden.summary()
    folder = warden.folder()
    drop(data, folder, os.fsdecode(name))
    assert warden.archived(data)["source"] == f"{folder}/{shown}"


def test_archive_inside_a_watched_folder_is_not_scanned(warden: Warden) -> None:
    """Runs, and anything people unzip into the archive, are never taken for new summaries."""
    foreign = warden.site.archive / "unzipped"
    foreign.mkdir()
    drop(encoded(flat_summary({"FOREIGN": GOOD}, timestamp="20210101_000000")), foreign)
    warden.caught_up()
    assert [entry for entry in index_of(warden.site.archive) if str(warden.site.archive) in entry["source"]] == []
    assert (foreign / "summary.json").exists()


def test_temporary_and_hidden_names_are_left_alone(warden: Warden) -> None:
    """What is hidden, or carries a name that a writer will change, is no summary yet."""
    folder = warden.folder()
    for name in (".hidden.json", "summary.json.tmp", "summary.json.part", "summary.json~"):
        (folder / name).write_bytes(encoded(flat_summary({name: GOOD}, timestamp="20210202_000000")))
    warden.caught_up()
    assert [entry for entry in index_of(warden.site.archive) if str(folder) in entry["source"]] == []


def test_second_daemon_of_one_state_directory_is_refused_by_name(warden: Warden) -> None:
    """The second exits with 2 and names the directory; the first does not notice."""
    second = modelwarden("run", "--config", warden.site.config)
    assert second.returncode == 2
    assert str(warden.site.state) in second.stderr
    assert len(second.stderr.splitlines()) == 1
    warden.caught_up()


def test_log_lines_are_json_events_with_keys(warden: Warden) -> None:
    """Every line is one JSON object of bounded size: an event, its level, its moment, and figures as their own keys."""
    folder = warden.folder()
    for tree in range(200):  # watchdog warns where it comes upon one folder twice
        (folder / f"{tree}" / "a" / "b" / "c").mkdir(parents=True)
    data = encoded(flat_summary(timestamp="20200101_010101"))
    warden.expected.append(data)
    path = drop(data, warden.folder())
    until(lambda: warden.logged("run_archived", path), "the event")
    (event,) = warden.logged("run_archived", path)
    assert event == event | {"run": "20200101_010101", "approved": 1, "review": 1, "dropped": 1, "source": str(path)}
    lines = warden.site.log.read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if not line.startswith("{")] == []
    assert max(map(len, lines)) < 4096
    events = [json.loads(line) for line in lines]
    assert all({"event", "level", "timestamp"} <= event.keys() and " " not in event["event"] for event in events)


def test_hard_linked_backup_of_the_index_stays_as_it_was(warden: Warden) -> None:
    """Who keeps index.json by a hard link, as backups do, keeps those bytes: a file in use is never written to."""
    warden.caught_up()
    backup = warden.site.folder / ".backup"
    os.link(warden.site.archive / "index.json", backup)
    kept = backup.read_bytes()
    for _ in range(3):
        warden.caught_up()
    assert backup.read_bytes() == kept


FOLDERS = """
[[watch]]
path = "deep"
[[watch]]
path = "flat"
patterns = ["result_*.json", "*.summary"]
recursive = false
[[watch]]
path = "outer"
recursive = false
[[watch]]
path = "outer/inner"
patterns = ["keep-*.json"]
[[watch]]
path = "twice"
[[watch]]
path = "twice"
patterns = ["*.summary"]
[[watch]]
path = "later"
"""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, Daemon]]:
    """A daemon that watches the folders of FOLDERS; `later` is made when it is ready."""
    site = make_site(tmp_path_factory.mktemp("folders"), watch=FOLDERS)
    for name in ("deep", "flat", "outer/inner", "twice"):
        (site.folder / name).mkdir(parents=True)
    with running_daemon("--config", site.config, log=site.log) as daemon:
        (site.folder / "later").mkdir()
        yield site, daemon
        assert daemon.stop() == 0
    assert_archive_whole(site.archive)


def _taken(running: tuple[Site, Daemon], left: list[str], taken: list[str], seconds: float = 30) -> set[str]:
    """Drop files, those to be left alone first, wait for those to be taken; return what became runs, of all these."""
    site, daemon = running
    paths = [site.folder / name for name in [*left, *taken]]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        drop(encoded(flat_summary({path.name: GOOD}, run_name=str(path))), path.parent, path.name)

    def archived() -> set[str]:
        return {event["source"] for event in daemon.events("run_archived")} & set(map(str, paths))

    until(lambda: archived() >= {str(site.folder / name) for name in taken}, f"{taken} are archived", seconds)
    return {str(Path(source).relative_to(site.folder)) for source in archived()}


def test_folder_takes_what_its_patterns_and_its_depth_name(folders: tuple[Site, Daemon]) -> None:
    """Each `[[watch]]` has patterns and a depth of its own."""
    left = ["deep/a.txt", "flat/other.json", "flat/below/result_2.json"]
    taken = ["deep/a.json", "deep/er/still/b.json", "flat/result_1.json", "flat/z.summary"]
    assert _taken(folders, left, taken) == set(taken)


@pytest.mark.parametrize("hidden", [".cache", "run.tmp"])
def test_file_in_a_hidden_or_temporary_folder_is_left_alone(folders: tuple[Site, Daemon], hidden: str) -> None:
    """An event tells the same as a scan: folders that are hidden, or will be renamed, are not looked into."""
    site, _ = folders
    (site.folder / "deep" / hidden).mkdir()
    sentinel = [f"deep/beside{hidden}.json"]
    assert _taken(folders, [f"deep/{hidden}/summary.json"], sentinel) == set(sentinel)


def test_nested_folder_keeps_its_own_patterns(folders: tuple[Site, Daemon]) -> None:
    """A folder inside another keeps its own patterns, and one that is not recursive takes nothing from below."""
    assert _taken(folders, ["outer/inner/other.json"], ["outer/inner/keep-1.json"]) == {"outer/inner/keep-1.json"}


def test_folder_named_twice_takes_what_either_table_names(folders: tuple[Site, Daemon]) -> None:
    """Events are followed for both tables of one folder; nobody waits for the next scan."""
    taken = ["twice/a.json", "twice/a.summary"]
    assert _taken(folders, ["twice/a.txt"], taken, seconds=3) == set(taken)


def test_folder_that_is_missing_at_the_start_is_watched_when_it_appears(folders: tuple[Site, Daemon]) -> None:
    """A missing folder is said, not fatal, and watched soon after it is made."""
    site, daemon = folders
    assert [event["path"] for event in daemon.events("watch_waits")] == [str(site.folder / "later")]
    until(
        lambda: [each for each in daemon.events("watch_armed") if each["path"] == str(site.folder / "later")], "a watch"
    )
    assert _taken(folders, ["later/a.txt"], ["later/a.json"]) == {"later/a.json"}


def test_files_that_were_there_before_the_start_are_archived_once_each(tmp_path: Path) -> None:
    """What was left while the daemon was down is found by the first scan, and stays where it is."""
    site = make_site(tmp_path, NOWHERE)
    summaries = [encoded(random_summary(seed, models=3)) for seed in range(50)]
    for position, data in enumerate(summaries):
        drop(data, site.out, f"{position}.json")
    sources = snapshot(site.out)
    with running_daemon("--no-courier", "--config", site.config, log=site.log) as daemon:
        daemon.wait_for("run_archived", 50)
        assert daemon.stop() == 0
    assert_archive_whole(site.archive, summaries)
    assert_owed_once(site, "team", summaries)
    assert snapshot(site.out) == sources


def test_touched_or_rewritten_while_down_only_new_content_is_a_run(tmp_path: Path) -> None:
    """Across a restart a touch is nothing; new content is a run though size and modification time are the old ones."""
    site = make_site(tmp_path)
    touched, old, new = (encoded(flat_summary({symbol: GOOD})) for symbol in ("TOUCHED", "BEFORE", "BEHIND"))
    first, second = drop(touched, site.out, "touched.json"), drop(old, site.out, "rewritten.json")
    assert modelwarden("run", "--once", "--config", site.config).returncode == 0
    assert_archive_whole(site.archive, [touched, old])
    before = second.stat()
    second.write_bytes(new)
    os.utime(second, ns=(before.st_atime_ns, before.st_mtime_ns))
    os.utime(first, (1, 1))
    assert second.stat().st_size == before.st_size
    assert modelwarden("run", "--once", "--config", site.config).returncode == 0
    entries = assert_archive_whole(site.archive, [touched, old, new])
    assert [entry["timestamp"][15:] for entry in entries] == ["", "_2", "_3"]


def test_sigterm_under_load_stops_whole_and_a_restart_finishes(tmp_path: Path) -> None:
    """Told to stop amid a burst, the daemon ends its batch and exits with 0; the next start archives the rest."""
    site = make_site(tmp_path, NOWHERE)
    summaries = [encoded(random_summary(seed, models=3)) for seed in range(200)]
    for position, data in enumerate(summaries):
        drop(data, site.out, f"{position}.json")
    with running_daemon("--no-courier", "--config", site.config, log=site.log) as daemon:
        daemon.wait_for("run_archived")
        assert daemon.stop(seconds=10) == 0
        assert len(daemon.events("stopped")) == 1
    assert_nothing_half_made(site.archive)
    archived = {entry["sha256"] for entry in assert_archive_whole(site.archive)}
    assert_owed_once(site, "team", [data for data in summaries if sha256(data) in archived])
    assert modelwarden("run", "--once", "--no-courier", "--config", site.config).returncode == 0
    assert_archive_whole(site.archive, summaries)
    assert_owed_once(site, "team", summaries)


def test_sigkills_amid_a_burst_lead_to_the_same_archive(tmp_path: Path) -> None:
    """Killed three times while 200 summaries arrive, started again: each is archived, indexed and owed once."""
    site = make_site(tmp_path, NOWHERE)
    summaries = [encoded(random_summary(seed, models=3)) for seed in range(200)]
    with running_daemon("--no-courier", "--config", site.config, log=site.log) as daemon:
        for position, data in enumerate(summaries):
            drop(data, site.out, f"{position}.json")
        sources = snapshot(site.out)
        _kill_when_visible(site, daemon, 1)
    for runs in (80, 150):
        with running_daemon("--no-courier", "--config", site.config, log=site.log, ready=None) as daemon:
            _kill_when_visible(site, daemon, runs)
    assert modelwarden("run", "--once", "--no-courier", "--config", site.config).returncode == 0
    assert_archive_whole(site.archive, summaries)
    assert_nothing_half_made(site.archive)
    assert_owed_once(site, "team", summaries)
    assert snapshot(site.out) == sources
    assert_second_start_changes_nothing(site)


def _kill_when_visible(site: Site, daemon: Daemon, runs: int) -> None:
    until(lambda: len(list(site.archive.glob("2*"))) >= runs, f"{runs} runs")
    daemon.stop(signal.SIGKILL)


def test_crash_between_rename_and_index_is_repaired_by_the_next_start(tmp_path: Path) -> None:
    """A run that has its name and nothing else yet, neither index entry nor rows, gets both, once."""
    site = make_site(tmp_path, NOWHERE)
    first, second = encoded(flat_summary({"FIRST": GOOD})), encoded(flat_summary({"SECOND": GOOD}))
    drop(first, site.out, "1.json")
    assert modelwarden("run", "--once", "--no-courier", "--config", site.config).returncode == 0
    before = tmp_path / "before"
    shutil.copytree(site.state, before)
    shutil.copy2(site.archive / "index.json", before)
    drop(second, site.out, "2.json")
    assert modelwarden("run", "--once", "--no-courier", "--config", site.config).returncode == 0
    (before / "index.json").rename(site.archive / "index.json")
    shutil.rmtree(site.state)
    before.rename(site.state)
    assert modelwarden("run", "--once", "--no-courier", "--config", site.config).returncode == 0
    assert_archive_whole(site.archive, [first, second])
    assert_owed_once(site, "team", [first, second])


def test_deleted_state_is_made_again_without_duplicates_or_old_messages(tmp_path: Path) -> None:
    """Without its state file the daemon archives nothing twice and owes nothing that is older than the new one."""
    site = make_site(tmp_path, NOWHERE)
    data = encoded(flat_summary())
    drop(data, site.out)
    assert modelwarden("run", "--once", "--no-courier", "--config", site.config).returncode == 0
    shutil.rmtree(site.state)
    assert modelwarden("run", "--once", "--no-courier", "--config", site.config).returncode == 0
    assert_archive_whole(site.archive, [data])
    assert outbox_of(site.state) == []


def test_two_daemons_of_one_archive_index_the_runs_of_both(tmp_path: Path) -> None:
    """With folders and state directories of their own they share the archive; bytes that both see are one run."""
    archive = tmp_path / "archive"
    shared = encoded(flat_summary(timestamp="20190101_000000"))
    summaries = [shared]
    with ExitStack() as stack:
        daemons = []
        for number in (1, 2):
            site = make_site(tmp_path / str(number), archive=str(archive))
            text = site.config.read_text(encoding="utf-8")
            site.config.write_text(f'state_dir = "state"\n{text}', encoding="utf-8")
            daemons.append((site, stack.enter_context(running_daemon("--config", site.config, log=site.log))))
        for seed in range(40):
            site, _ = daemons[seed % 2]
            summaries.append(encoded(random_summary(seed // 2, models=2) | {"run_name": f"run {seed}"}))
            drop(summaries[-1], site.out, f"{seed}.json")
        for site, _ in daemons:
            drop(shared, site.out, "shared.json")
        until(lambda: len(index_of(archive)) == len(summaries), "all runs in the index")
        for _, daemon in daemons:
            assert daemon.stop() == 0
    assert_archive_whole(archive, summaries)
    assert_nothing_half_made(archive)


def test_source_is_deleted_after_its_run_is_safe_where_that_is_asked_for(tmp_path: Path) -> None:
    """`after_archive = "delete"` removes archived sources and copies of them, and nothing that was rejected."""
    site = make_site(tmp_path, intake='after_archive = "delete"')
    data = encoded(flat_summary())
    with running_daemon("--config", site.config, log=site.log) as daemon:
        path = drop(data, site.out)
        until(lambda: not path.exists(), "the source is gone")
        assert_archive_whole(site.archive, [data])
        rejected = drop(b'{"models": []}', site.out, "rejected.json")
        daemon.wait_for("summary_rejected")
        copy = drop(data, site.out, "copy.json")
        until(lambda: not copy.exists(), "the copy is gone")
        assert rejected.exists()
        assert daemon.stop() == 0
    assert_archive_whole(site.archive, [data])


def test_c_locale_changes_nothing(tmp_path: Path) -> None:
    """In an ASCII locale names, symbols, paths and messages with any character arrive whole."""
    data = encoded(flat_summary({"ROCKET🚀": GOOD, "ÄÖÜ": BAD}, run_name="Nachtlauf für Ömer"))
    with http_server() as server:
        team = destination("team", server.url(), "APPROVED", "DROP")
        site = make_site(tmp_path, team, watch='[[watch]]\npath = "tränig"\ncreate = true\n')
        with running_daemon("--config", site.config, log=site.log, env=C_LOCALE) as daemon:
            drop(data, site.folder / "tränig", "läufe 🚀.json")
            daemon.wait_for("run_archived")
            (message,) = until(lambda: server.accepted, "the message")
            assert daemon.stop() == 0
    assert "- ROCKET🚀: " in message.text
    assert "- ÄÖÜ: " in message.text
    assert "Nachtlauf für Ömer" in message.text
    (entry,) = assert_archive_whole(site.archive, [data])
    assert entry["source"] == str(site.folder / "tränig" / "läufe 🚀.json")


def test_run_once_leaves_nothing_undecided_and_tells_of_rejections(tmp_path: Path) -> None:
    """`run --once` waits for what may still be being written; its exit code is 1 where a file was rejected."""
    site = make_site(tmp_path)
    data = encoded(flat_summary())
    drop(data, site.out)
    drop(b"[]", site.out, "list.json")
    drop(b'{"models": [', site.out, "cut.json")
    assert modelwarden("run", "--once", "--config", site.config).returncode == 1
    assert_archive_whole(site.archive, [data])
    assert len(list((site.archive / "rejected").glob("*/reason.json"))) == 2
    assert modelwarden("run", "--once", "--config", site.config).returncode == 0


def test_run_without_a_config_file_watches_and_archives_where_it_is_told(tmp_path: Path) -> None:
    """`run --watch DIR --archive DIR` is all that a first try needs."""
    out, archive = tmp_path / "out", tmp_path / "some" / "archive"
    out.mkdir()
    data = encoded(flat_summary())
    with running_daemon("--watch", "out", "--archive", "some/archive", log=tmp_path / "log", cwd=tmp_path) as daemon:
        drop(data, out)
        daemon.wait_for("run_archived")
        assert daemon.stop(signal.SIGINT) == 0
    assert_archive_whole(archive, [data])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log", "out", "some"]
