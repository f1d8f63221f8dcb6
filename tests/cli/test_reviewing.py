"""`review` and `audit`: a person decides, the archive keeps it, and whoever asks is told."""

import csv
import io
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from answers import assert_fits
from commands import Done, command
from invariants import snapshot
from modelwarden import TrainingArchiveManager, UnknownRun
from modelwarden.archive.decisions import Head, encode_head, read_all, read_news
from modelwarden.verification import verify
from processes import Site, clean_environment, destination, make_site, outbox_of, running_daemon
from summaries import BAD, GOOD, MIDDLING, flat_summary

OLD, NEW = "20250101_000000", "20250102_000000"
STRANGE = "[red]日本[/red]"
MODELS: dict[str, dict[str, Any]] = {"A": GOOD, "B": MIDDLING, STRANGE: MIDDLING, "D": BAD}


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody works on these archives: what is found need not be looked at again."""
    monkeypatch.setattr("modelwarden.cli.upkeep.verify_archive", partial(verify, patience=0))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive of two runs, in each of which two models wait."""
    folder = tmp_path_factory.mktemp("reviewing") / "archive"
    with TrainingArchiveManager(folder) as manager:
        for name in (OLD, NEW):
            manager.archive_training_run(flat_summary(MODELS, timestamp=name, validation_interval=50))
    return folder


@pytest.fixture
def archive(made: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(made, tmp_path / "archive"))


def decide(archive: Path, *words: str, by: str = "me") -> Done:
    return command("review", *words, "--reason", "because", "--by", by, "--archive", archive)


def in_json(archive: Path, *words: str, code: int = 0) -> Any:
    done = command(*words, "--json", "--archive", archive)
    assert (done.code, done.err) == (code, "")
    answer = json.loads(done.out, parse_constant=pytest.fail)
    assert_fits(answer, words[0])
    return answer


def approved(archive: Path, *words: str) -> list[str]:
    return [line.split("\t")[0] for line in command("approved", *words, "--archive", archive).lines]


@pytest.mark.parametrize("state", [True, False], ids=["catalog", "folders"])
def test_what_waits_is_listed_oldest_first(archive: Path, state: bool) -> None:
    """Models in REVIEW of every run; a limit shows the oldest, a run's name that run's."""
    if not state:
        shutil.rmtree(archive / ".state")
    answer = in_json(archive, "review")
    assert [(each["run"], each["symbol"]) for each in answer["waiting"]] == [
        (OLD, "B"),
        (OLD, STRANGE),
        (NEW, "B"),
        (NEW, STRANGE),
    ]
    assert in_json(archive, "review", "--limit", "1")["hidden"] == 3
    assert {each["run"] for each in in_json(archive, "review", "latest")["waiting"]} == {NEW}
    assert (
        command("review", "-n", "1", "--archive", archive).lines[-1] == "3 younger ones wait, too: --limit 4 shows all"
    )


def test_approval_is_in_every_answer_and_says_so(archive: Path) -> None:
    """`approved`, the Python API by an argument, the catalog; the gate's own word stays what it was."""
    before = snapshot(archive / NEW)
    done = decide(archive, "latest", STRANGE, "--approve", by="山田")
    assert (done.code, done.out, done.err) == (0, f"{STRANGE} of run {NEW} is approved: decision 1\n", "")
    assert approved(archive) == ["A", STRANGE]
    assert approved(archive, "--by-gate") == ["A"]
    assert approved(archive, OLD) == ["A"]
    (gate, person) = in_json(archive, "approved")["models"]
    assert (gate["review"], person["review"]["by"], person["review"]["reason"]) == (None, "山田", "because")
    assert in_json(archive, "show", "latest", STRANGE)["models"][0]["review"]["verb"] == "approve"
    assert "approved by 山田" in command("show", "latest", STRANGE, "--archive", archive).out
    assert [each["symbol"] for each in in_json(archive, "review")["waiting"]] == ["B", STRANGE, "B"]
    with TrainingArchiveManager(archive) as manager:
        assert manager.get_approved_models(NEW) == ["A"]
        assert manager.get_approved_models(NEW, reviewed=True) == ["A", STRANGE]
        assert [each.reviewed_by for each in manager.get_approved_checkpoints(NEW, reviewed=True)] == [None, "山田"]
    with closing(sqlite3.connect(archive / ".state" / "modelwarden.sqlite")) as connection:
        rows = connection.execute("SELECT run, symbol, reviewed, by FROM approvals ORDER BY key, symbol").fetchall()
    assert rows == [(OLD, "A", 0, None), (NEW, "A", 0, None), (NEW, STRANGE, 1, "山田")]
    assert snapshot(archive / NEW) == before, "a run's folder is never touched"
    assert command("verify", "--archive", archive).code == 0


def test_rejection_takes_an_approved_model_out(archive: Path) -> None:
    """A person has the last word, also about what the gate approved."""
    assert decide(archive, "latest", "A", "--reject").code == 0
    assert command("approved", "--archive", archive).code == 1
    assert approved(archive, "--by-gate") == ["A"]


def test_later_decision_counts_and_can_be_withdrawn(archive: Path) -> None:
    """Approve, reject, withdraw: each is kept, the last one is in force."""
    for verb, there in (
        ("--approve", ["A", "B"]),
        ("--reject", ["A"]),
        ("--withdraw", ["A"]),
        ("--approve", ["A", "B"]),
    ):
        assert decide(archive, NEW, "B", verb).code == 0
        assert approved(archive) == there
        assert command("verify", "--archive", archive).code == 0
    verbs = [each["verb"] for each in in_json(archive, "audit")["decisions"]]
    assert verbs == ["approve", "reject", "withdraw", "approve"]
    again = decide(archive, NEW, "B", "--approve", by="you")
    assert (again.code, again.out) == (1, f"B of run {NEW} is approved already, by me: decision 4\n")
    assert len(in_json(archive, "audit")["decisions"]) == 4


def test_drop_needs_an_override_and_that_is_recorded(archive: Path) -> None:
    """Nobody approves it by a slip of the hand."""
    refused = decide(archive, "latest", "D", "--approve")
    assert (refused.code, refused.out) == (2, "")
    assert "is in DROP: fitness 0.20 < 0.50" in refused.err
    assert "--override" in refused.err
    assert not (archive / "reviews").exists()
    assert decide(archive, "latest", "D", "--approve", "--override").code == 0
    assert decide(archive, "latest", "B", "--approve", "--override").code == 0
    assert [each["override"] for each in in_json(archive, "audit")["decisions"]] == [True, False]
    assert approved(archive) == ["A", "B", "D"]


WRONG: list[tuple[list[str], str]] = [
    (["latest"], "name one run, one model and one decision"),
    (["latest", "B"], "name one run"),
    (["latest", "B", "--approve", "--reject"], "name one run"),
    (["nowhere", "B", "--approve"], "no run 'nowhere'"),
    (["latest", "NOBODY", "--approve"], "no model called 'NOBODY'"),
    (["latest", "B", "--withdraw"], "nothing is decided about B"),
    (["latest", "B", "--approve", "--reason", ""], "--reason: is missing"),
    (["latest", "B", "--approve", "--reason", "x\ny"], "control character"),
    (["latest", "B", "--approve", "--reason", "\x1b[31m"], "control character"),
    (["latest", "B", "--approve", "--reason", "x" * 2001], "2001 characters"),
    (["latest", "B", "--approve", "--reason", "\udcff"], "no UTF-8"),
    (["latest", "B", "--approve", "--by", " "], "--by: is missing"),
    (["latest", "B", "--approve", "--by", "x" * 129], "129 characters"),
]


@pytest.mark.parametrize(("words", "said"), WRONG, ids=[ascii(" ".join(words))[:60] for words, _ in WRONG])
def test_decision_that_is_none_is_one_message_and_decides_nothing(archive: Path, words: list[str], said: str) -> None:
    """What is wrong, exit code 2, and no file."""
    words = words if "--reason" in words or words == ["latest"] else [*words, "--reason", "because"]
    extra = ["--reason", "x"] if words == ["latest"] else []
    done = command("review", *words, *extra, "--archive", archive)
    assert done.code == 2
    assert said in done.err or "nothing is decided" in done.err
    assert "\x1b" not in done.err
    assert not (archive / "reviews").exists()


def test_decision_without_a_name_is_of_who_is_logged_in(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind sudo of who called it."""
    monkeypatch.setattr("modelwarden.cli.reviewing.getpass.getuser", lambda: "root")
    command("review", NEW, "B", "--approve", "--reason", "x", "--archive", archive)
    assert in_json(archive, "audit")["decisions"][0]["by"] == "root"


def test_reindex_makes_all_of_it_again(archive: Path) -> None:
    """The files are the truth: catalog and head follow from them."""
    decide(archive, NEW, "B", "--approve")
    decide(archive, OLD, "B", "--reject")
    shutil.rmtree(archive / ".state")
    (archive / "reviews" / "head.json").unlink()
    assert command("verify", "--archive", archive).code == 1
    assert command("reindex", "--archive", archive).code == 0
    assert command("verify", "--archive", archive).code == 0
    with closing(sqlite3.connect(archive / ".state" / "modelwarden.sqlite")) as connection:
        assert connection.execute("SELECT number, verb FROM reviews ORDER BY number").fetchall() == [
            (1, "approve"),
            (2, "reject"),
        ]


DEEDS = [
    "first removed",
    "first altered",
    "last removed",
    "last altered",
    "last removed with head",
    "last altered with head",
    "last truncated with head",
    "all removed",
]


def spoil(archive: Path, deed: str) -> None:
    """Do it to one of two decisions, or to all, as carefully as somebody can who has no state."""
    reviews = archive / "reviews"
    first, last = sorted((reviews / NEW).iterdir())
    spoiled = first if "first" in deed else last
    if "all" in deed:
        shutil.rmtree(reviews)
        return
    if "removed" in deed:
        spoiled.unlink()
    elif "truncated" in deed:
        spoiled.write_bytes(spoiled.read_bytes()[:100])
    else:
        spoiled.write_text(spoiled.read_text().replace("because", "pleased"))
    if "head" in deed:
        end = read_all(str(archive))[-1]
        (reviews / "head.json").write_bytes(encode_head(Head(end.number, end.digest)))


@pytest.mark.parametrize("deed", DEEDS)
def test_verify_sees_what_was_done_to_the_record(archive: Path, deed: str) -> None:
    """Whatever runs meanwhile: a reindex hides nothing, and a decision more is no end of it."""
    for symbol in ("B", STRANGE):
        assert decide(archive, NEW, symbol, "--approve").code == 0
    spoil(archive, deed)
    other = ["review", OLD, "B", "--reject", "--reason", "x"]
    for again in ([], ["reindex"], other, ["reindex"]):
        if again:
            assert command(*again, "--archive", archive).code == 0
        else:
            TrainingArchiveManager(archive).close()  # as every start does
        done = command("verify", "--archive", archive)
        assert done.code == 1
        assert ("removed" if "removed" in deed else "altered") in done.out


@pytest.mark.parametrize("deed", [each for each in DEEDS if "altered" not in each or "first" in each])
def test_archive_itself_says_what_was_done_once_a_state_has_seen_it(archive: Path, deed: str) -> None:
    """A start leaves its mark in the chain's head: whoever comes later, with another state, is told."""
    for symbol in ("B", STRANGE):
        assert decide(archive, NEW, symbol, "--approve").code == 0
    spoil(archive, deed)
    assert command("reindex", "--archive", archive).code == 0
    shutil.rmtree(archive / ".state")
    assert command("reindex", "--archive", archive).code == 0
    assert command("verify", "--archive", archive).code == 1


@pytest.mark.parametrize("deed", ["last altered", "last altered with head"])
def test_altered_last_decision_stays_told_without_the_state_that_saw_it(archive: Path, deed: str) -> None:
    """The head says what it was."""
    assert decide(archive, NEW, "B", "--approve").code == 0
    assert decide(archive, NEW, STRANGE, "--approve").code == 0
    spoil(archive, deed)
    assert command("reindex", "--archive", archive).code == 0
    shutil.rmtree(archive / ".state")
    assert command("reindex", "--archive", archive).code == 0
    done = command("verify", "--archive", archive)
    assert (done.code, "it was altered" in " ".join(done.out.split())) == (1, True)


def test_state_that_adopts_another_archive_is_no_witness_there(archive: Path, made: Path, tmp_path: Path) -> None:
    """What it saw elsewhere was not removed here: the first decision is the first."""
    config = tmp_path / "config.toml"
    config.write_text(f'archive_dir = "{tmp_path / "here"}"\nstate_dir = "{tmp_path / "state"}"\n')
    words = ("review", NEW, "B", "--approve", "--reason", "x", "--json", "--config", config)
    archive.rename(tmp_path / "here")
    assert json.loads(command(*words).out)["decision"]["number"] == 1
    (tmp_path / "here").rename(tmp_path / "away")
    shutil.copytree(made, tmp_path / "here", ignore=shutil.ignore_patterns(".state", ".archive.json"))
    (tmp_path / "here" / ".archive.json").write_text(json.dumps({"schema_version": 1, "archive_id": "0" * 32}))
    assert command(*words).code == 2
    assert command("adopt", "--config", config).code == 0
    assert json.loads(command(*words).out)["decision"]["number"] == 1
    assert command("verify", "--config", config).code == 0


def test_altered_decision_is_announced_to_nobody(site: Site) -> None:
    """It is no news of a person's, and a number that was given once is given to no other."""
    (site.out / "a.json").write_text(json.dumps(flat_summary({"B": MIDDLING, "X1": MIDDLING}, timestamp=NEW)))
    command("run", "--once", "--no-courier", "--config", site.config)
    for symbol in ("B", "X1"):
        assert command("review", NEW, symbol, "--approve", "--reason", "because", "--config", site.config).code == 0
    owed = outbox_of(site.state)
    spoil(site.archive, "last altered with head")
    assert command("reindex", "--config", site.config).code == 0
    assert command("run", "--once", "--no-courier", "--config", site.config).code == 0
    assert outbox_of(site.state) == owed
    (site.archive / "reviews" / NEW / "000002.json").unlink()
    again = command("review", NEW, "X1", "--reject", "--reason", "x", "--json", "--config", site.config)
    assert json.loads(again.out)["decision"]["number"] == 3


def test_last_decision_that_is_gone_for_good_can_be_let_go_of(archive: Path) -> None:
    """On purpose, as with a run: from then on nothing is found."""
    decide(archive, NEW, "B", "--approve")
    decide(archive, OLD, "B", "--approve")
    (archive / "reviews" / OLD / "000002.json").unlink()
    assert command("verify", "--archive", archive).code == 1
    assert command("reindex", "--forget-missing", "--archive", archive).code == 0
    assert command("verify", "--archive", archive).code == 0


def test_damaged_decision_lets_nobody_deploy(archive: Path) -> None:
    """What it rejected can't be told: the answer is refused, and the gate's own word is there for who asks for it."""
    decide(archive, NEW, "A", "--reject")
    (archive / "reviews" / NEW / "000001.json").write_bytes(b"")
    done = command("approved", "--archive", archive)
    assert (done.code, done.out) == (2, "")
    assert "000001.json: is damaged" in done.err
    assert approved(archive, "--by-gate") == ["A"]
    audited = command("audit", "--archive", archive)
    assert audited.code == 2
    assert "000001.json" in audited.err
    with TrainingArchiveManager(archive) as manager:
        assert manager.get_approved_models(NEW) == ["A"]
        with pytest.raises(UnknownRun):
            manager.get_approved_models(NEW, reviewed=True)


def test_decision_says_nothing_of_another_run_of_that_name(archive: Path, tmp_path: Path) -> None:
    """It names the bytes that were judged."""
    decide(archive, NEW, "B", "--approve")
    with TrainingArchiveManager(tmp_path / "other") as manager:
        manager.archive_training_run(flat_summary({"A": GOOD, "B": MIDDLING, "C": BAD}, timestamp=NEW))
    shutil.rmtree(archive / NEW)
    shutil.copytree(tmp_path / "other" / NEW, archive / NEW)
    assert approved(archive, NEW) == ["A"]
    assert "B" in [each["symbol"] for each in in_json(archive, "review", NEW)["waiting"]]


def test_audit_as_csv_has_all_that_was_recorded(archive: Path) -> None:
    """For a spreadsheet: what begins like a formula is text there; --since leaves out what came before."""
    command("review", NEW, "B", "--approve", "--reason", "=1+1, really", "--by", "a,b", "--archive", archive)
    done = command("audit", "--csv", "--archive", archive)
    head, row = csv.reader(io.StringIO(done.out))
    found = dict(zip(head, row, strict=True))
    assert (found["reason"], found["by"], found["verb"], found["override"]) == (
        "'=1+1, really",
        "a,b",
        "approve",
        "false",
    )
    assert (found["run"], found["symbol"], found["policy"]) == (NEW, "B", "766fc3ed")
    assert command("audit", "--since", "1d", "--archive", archive).code == 0
    assert command("audit", "--since", "2999-01-01", "--archive", archive).code == 1


def test_clock_that_was_set_back_hides_no_decision(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was decided after another stands behind it, whatever it is dated, and `--since` shows it with that one."""
    decide(archive, NEW, "B", "--approve")
    with monkeypatch.context() as patched:
        patched.setattr("modelwarden.cli.reviewing.iso", lambda _: "2001-01-01T00:00:00Z")
        decide(archive, NEW, "B", "--reject")
    dated = [each["decided_at"][:4] for each in in_json(archive, "audit", "--since", "1d")["decisions"]]
    assert (len(dated), dated[1]) == (2, "2001")
    assert approved(archive, NEW) == ["A"]
    assert command("verify", "--archive", archive).code == 0


def test_two_decisions_at_once_are_two_or_one(archive: Path) -> None:
    """Of two that say the same one is made, and the other told; the chain has no gap and no twin."""
    words = [sys.executable, "-P", "-m", "modelwarden", "review", NEW, "--reason", "x", "--archive", str(archive)]
    said = [("B", "--approve"), ("B", "--approve"), (STRANGE, "--approve"), (STRANGE, "--reject")]
    processes = [
        subprocess.Popen([*words, symbol, verb], stdout=subprocess.DEVNULL, env=clean_environment())
        for symbol, verb in said
    ]
    codes = [process.wait() for process in processes]
    assert (sorted(codes[:2]), codes[2:]) == ([0, 1], [0, 0])
    assert [each["number"] for each in in_json(archive, "audit")["decisions"]] == [1, 2, 3]
    assert command("verify", "--archive", archive).code == 0


@pytest.mark.parametrize("state", [True, False], ids=["catalog", "folders"])
def test_superseded_run_waits_for_nobody_and_is_decided_about_with_a_word(archive: Path, state: bool) -> None:
    """The list leaves it out, unless it is named; who decides about it is told which run took its place."""
    file = archive / NEW / "model_assessments.json"
    file.write_text(json.dumps(json.loads(file.read_bytes()) | {"supersedes": OLD}))
    assert command("reindex", "--archive", archive).code == 0
    if not state:
        shutil.rmtree(archive / ".state")
    assert {each["run"] for each in in_json(archive, "review")["waiting"]} == {NEW}
    assert {each["run"] for each in in_json(archive, "review", OLD)["waiting"]} == {OLD}
    done = decide(archive, OLD, "B", "--approve")
    assert done.code == 0
    assert f"run {OLD} was superseded by {NEW}" in done.err
    withdraw = ("review", OLD, "B", "--withdraw", "--reason", "x", "--by", "me", "--json", "--archive", archive)
    done = command(*withdraw)
    assert json.loads(done.out)["decided"] is True
    assert f"run {OLD} was superseded by {NEW}" in done.err
    assert decide(archive, NEW, "B", "--approve").err == ""


def test_start_reads_only_folders_that_changed(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was read once, and looks as it did, costs a look; a decision that came by another hand is read."""
    monkeypatch.setattr("modelwarden.archive.decisions._YOUNG_SECONDS", 0.0)
    decide(archive, NEW, "B", "--approve")
    decide(archive, OLD, "B", "--approve")
    TrainingArchiveManager(archive).close()
    with closing(sqlite3.connect(archive / ".state" / "modelwarden.sqlite")) as connection:
        looks = dict(connection.execute("SELECT run, look FROM review_folders"))
    assert looks.keys() == {OLD, NEW}
    news = read_news(str(archive), looks, time.time())
    assert (news.looks, news.kept) == ({}, [])
    shutil.copytree(archive, archive.parent / "twin", ignore=shutil.ignore_patterns(".state"))
    twin = archive.parent / "twin"
    assert decide(twin, OLD, STRANGE, "--reject").code == 0
    shutil.copy(twin / "reviews" / OLD / "000003.json", archive / "reviews" / OLD)
    assert list(read_news(str(archive), looks, time.time()).looks) == [OLD]
    TrainingArchiveManager(archive).close()
    assert command("verify", "--archive", archive).code == 0


def test_audit_and_review_of_an_archive_without_any_say_no(tmp_path: Path) -> None:
    """Nothing decided and nothing waits: a sentence, exit code 1."""
    with TrainingArchiveManager(tmp_path / "archive") as manager:
        manager.archive_training_run(flat_summary({"A": GOOD}))
    for name, said in (("audit", "nothing was decided"), ("review", "nothing waits for a person")):
        done = command(name, "--archive", tmp_path / "archive")
        assert (done.code, done.out) == (1, f"{said}\n")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A daemon's place with two destinations that ask for decisions, one for some symbols alone."""
    picky = destination("picky", "json://127.0.0.1:9/y", "REVIEWED") + 'symbols = ["X*"]\n'
    return make_site(tmp_path / "site", destination("team", "json://127.0.0.1:9/x", "REVIEWED"), picky)


def test_decision_is_owed_once_to_who_asked_for_it(site: Site) -> None:
    """Beside a running daemon; a later start, and a lost state, owe nothing again."""
    with running_daemon("--config", site.config, "--no-courier", log=site.log) as daemon:
        (site.out / "a.json").write_text(json.dumps(flat_summary({"B": MIDDLING, "X1": MIDDLING}, timestamp=NEW)))
        daemon.wait_for("run_archived")
        for symbol in ("B", "X1"):
            done = command("review", NEW, symbol, "--approve", "--reason", "ok", "--by", "me", "--config", site.config)
            assert (done.code, done.err) == (0, "")
        assert daemon.stop() == 0
    owed = [(row["destination"], row["payload"].splitlines()[0]) for row in outbox_of(site.state)]
    assert sorted(owed) == [
        ("picky", f"X1 approved: run {NEW}"),
        ("team", f"B approved: run {NEW}"),
        ("team", f"X1 approved: run {NEW}"),
    ]
    command("run", "--once", "--no-courier", "--config", site.config)
    assert len(outbox_of(site.state)) == 3
    shutil.rmtree(site.state)
    command("run", "--once", "--no-courier", "--config", site.config)
    assert outbox_of(site.state) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_decision_without_the_right_to_write_is_one_message(archive: Path) -> None:
    """Who may only read asks, and decides nothing."""
    (archive / ".state" / "modelwarden.sqlite").chmod(0o400)
    archive.chmod(0o500)
    try:
        done = decide(archive, NEW, "B", "--approve")
    finally:
        archive.chmod(0o700)
    assert (done.code, done.out) == (2, "")
    assert "Traceback" not in done.err
