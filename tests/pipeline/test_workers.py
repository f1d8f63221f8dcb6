"""Workers stage what they are given, and nothing is lost with one that dies."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from hashlib import sha256
from pathlib import Path

import pytest

from invariants import assert_archive_whole, assert_nothing_half_made
from modelwarden.archive.outcomes import AlreadyArchived, Archived, Postponed, Rejected, Unfinished
from modelwarden.archive.publishing import Archive, Staged
from modelwarden.archive.tree import Tree
from modelwarden.errors import RejectSummary, RetryLater
from modelwarden.gate.json_object import KeyTwice, NotJson
from modelwarden.gate.policy import DEFAULT_NAME, Policy
from modelwarden.gate.run import Source
from modelwarden.gate.thresholds import ModelGatingConfig
from modelwarden.pipeline import crew as crew_module
from modelwarden.pipeline import workers as workers_module
from modelwarden.pipeline.crew import GROUP
from modelwarden.pipeline.policies import Policies
from modelwarden.pipeline.staging import DRAFTS, Candidate, StagedRun, Stager
from modelwarden.pipeline.walk import Found, Pipeline
from modelwarden.pipeline.workers import Orders, WorkerLost, Workers
from modelwarden.state.database import Database
from modelwarden.state.messages import Route
from processes import clean_environment, is_running, outbox_of, until
from summaries import encoded, flat_summary, random_summary

NAME = "20241224_153000"
SIZE = 2


def candidate(data: bytes, name: str | None = None) -> Candidate:
    """A summary on its way."""
    return Candidate(
        data, sha256(data).hexdigest(), Source("/out/s.json", len(data), None), "now", NAME, DEFAULT_NAME, name
    )


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Tree]:
    """An archive's tree whose staging folder is there."""
    tree = Tree(str(tmp_path / "archive"), "abcd")
    tree.enter_staging()
    yield tree
    tree.close()


def orders(tree: Tree, policy: Policy | None = None) -> Orders:
    """What the workers of that tree must know."""
    return Orders(tree.root, tree.staging, "abcd", "trainer-7", {DEFAULT_NAME: policy or Policy.from_config()})


@pytest.fixture
def workers(tree: Tree) -> Iterator[Workers]:
    """Two workers that wait for work."""
    with closing(Workers(SIZE)) as workers:
        workers.begin(orders(tree))
        yield workers


def pids(workers: Workers) -> list[int]:
    """The workers' processes."""
    return [worker._process.pid or 0 for worker in workers._workers]


def test_worker_stages_what_this_process_would_stage_byte_for_byte(workers: Workers, tree: Tree) -> None:
    """Where a run is staged makes no difference: files, record and rows are the same."""
    batch = [candidate(encoded(random_summary(seed, models=3)), f"{NAME}_{seed + 2}") for seed in range(5)]
    here = Stager(tree, {DEFAULT_NAME: Policy.from_config()}, "abcd", "trainer-7")

    theirs, ours = workers.stage(batch).result(), here.stage(batch)

    for mine, other in zip(ours, theirs, strict=True):
        assert isinstance(mine, StagedRun)
        assert isinstance(other, StagedRun)
        assert (other.run, other.models) == (mine.run, mine.models)
        assert files(other.folder) == files(mine.folder)
    here.close()


def test_workers_that_get_other_orders_judge_by_those(workers: Workers, tree: Tree) -> None:
    """The policies may be others in the next batch; what was asked before is judged by those of before."""
    strict = Policy.from_config(ModelGatingConfig(approved_min_fitness=0.99))
    batch = [candidate(encoded(flat_summary()))]
    (before,) = workers.stage(batch).result()

    workers.begin(orders(tree, strict))
    after = [workers.stage(batch).result()[0] for _ in range(SIZE)]

    assert isinstance(before, StagedRun)
    assert before.run.policy == Policy.from_config()
    assert [each.run.policy for each in after if isinstance(each, StagedRun)] == [strict] * SIZE


def files(folder: str) -> dict[str, bytes]:
    """What a staged folder holds."""
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def test_worker_tells_what_is_no_summary_with_its_place(workers: Workers) -> None:
    """A refusal comes back as the error that it is: kind, place and hint."""
    bad = flat_summary()
    bad["models"][1]["final_pf"] = "much"

    broken, twice, wrong, good = workers.stage(
        [candidate(b'{"a'), candidate(b'{"a": 1, "a": 2}'), candidate(encoded(bad)), candidate(encoded(flat_summary()))]
    ).result()

    assert isinstance(broken, NotJson)
    assert isinstance(twice, KeyTwice)
    assert str(twice).startswith('the key "a" stands twice in one object: keep one')
    assert isinstance(wrong, RejectSummary)
    assert wrong.where == "models[1].final_pf"
    assert wrong.what
    assert isinstance(good, StagedRun)


def test_worker_whose_disk_refuses_says_so_and_leaves_nothing(workers: Workers, tree: Tree) -> None:
    """A refusal of the disk is the same error as it is here."""
    os.rename(tree.staging, f"{tree.staging}-away")

    (outcome,) = workers.stage([candidate(encoded(flat_summary()))]).result()

    assert isinstance(outcome, RetryLater)
    assert not isinstance(outcome, StagedRun)
    assert tree.staging in outcome.where
    os.rename(f"{tree.staging}-away", tree.staging)
    assert [each for each in os.scandir(tree.staging) if each.is_dir()] == []


def test_worker_killed_before_it_answers_is_reported_and_others_go_on(workers: Workers) -> None:
    """What a dead worker was given is the caller's again."""
    victims = pids(workers)
    for victim in victims:
        os.kill(victim, signal.SIGSTOP)  # so that no answer can come first
    answers = [workers.stage([candidate(encoded(random_summary(seed)))]) for seed in range(SIZE)]
    os.kill(victims[0], signal.SIGKILL)
    os.kill(victims[1], signal.SIGCONT)

    lost = [answer for answer in answers if isinstance(answer.exception(30), WorkerLost)]

    assert len(lost) == 1
    assert not workers.are_whole()


def test_workers_end_when_they_are_closed(tree: Tree) -> None:
    """Nothing of them stays: no process, no descriptor."""
    before = len(os.listdir("/proc/self/fd"))
    workers = Workers(SIZE)
    workers.begin(orders(tree))
    workers.stage([candidate(encoded(flat_summary()))]).result()
    forked = pids(workers)

    workers.close()

    assert len(forked) == SIZE
    assert not any(map(is_running, forked))
    assert len(os.listdir("/proc/self/fd")) == before


def test_closed_worker_that_stands_still_is_killed(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever stopped it: the daemon ends without it."""
    monkeypatch.setattr(workers_module, "STOP_SECONDS", 0.2)
    workers = Workers(SIZE)
    workers.begin(orders(tree))
    stopped = pids(workers)
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)

    workers.close()

    assert not any(map(is_running, stopped))


def test_one_core_has_no_workers(tree: Tree) -> None:
    """One worker is no faster than the process it would work for."""
    with closing(Workers(1)) as workers:
        workers.begin(orders(tree))

        assert pids(workers) == []
        assert not workers.are_whole()


def test_worker_heeds_no_signal_that_is_the_daemons(workers: Workers) -> None:
    """A terminal sends Control-C, and systemd its SIGTERM, to all of them: the daemon decides when its workers end."""
    for pid in pids(workers):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(pid, number)

    outcomes = [workers.stage([candidate(encoded(flat_summary()))]).result()[0] for _ in range(SIZE)]

    assert all(isinstance(outcome, StagedRun) for outcome in outcomes)


def test_worker_at_rest_keeps_no_threads(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a backlog nothing stays of it but the process, which works again when it is asked."""
    monkeypatch.setattr(workers_module, "REST_SECONDS", 0.1)
    with closing(Workers(SIZE)) as workers:
        workers.begin(orders(tree))
        backlog = [candidate(encoded(random_summary(seed)), f"{NAME}_{seed + 2}") for seed in range(8)]
        for _ in range(SIZE):
            workers.stage(backlog).result()

        for pid in pids(workers):
            until(lambda pid=pid: len(os.listdir(f"/proc/{pid}/task")) == 1, "its threads to end")  # type: ignore[misc]

        assert isinstance(workers.stage(backlog).result()[0], StagedRun)


def test_workers_end_with_a_process_that_was_killed(tmp_path: Path) -> None:
    """Nobody is left to tell them: they end when their pipe does."""
    program = f"""
import sys, time
from modelwarden.archive.tree import Tree
from modelwarden.pipeline.workers import Workers, Orders
from modelwarden.gate.policy import Policy
workers = Workers(2)
tree = Tree({str(tmp_path / "archive")!r}, "abcd")
workers.begin(Orders(tree.root, tree.staging, "abcd", "host", {{"default": Policy.from_config()}}))
print(*[worker._process.pid for worker in workers._workers], flush=True)
time.sleep(60)
"""
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, env=clean_environment())
    assert process.stdout is not None
    with process.stdout:
        workers = [int(pid) for pid in process.stdout.readline().split()]
    process.kill()
    process.wait()

    assert len(workers) == SIZE
    until(lambda: not any(map(is_running, workers)), "the workers to end")


class Place:
    """A walk that may use workers."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.root = folder / "archive"
        self.state = folder / "state"
        self.workers = stack.enter_context(closing(Workers(SIZE)))
        database = stack.enter_context(closing(Database(str(self.state), "2024-12-24T15:30:00Z")))
        archive = stack.enter_context(closing(Archive(str(self.root), database.daemon_id)))
        self.pipeline = stack.enter_context(
            closing(
                Pipeline(
                    archive,
                    database,
                    Policies(Policy.from_config()),
                    [Route("slack", frozenset({"APPROVED", "REVIEW", "DROP"}))],
                    owner=database.daemon_id,
                    host=socket.gethostname(),
                    clock=lambda: 1_735_000_000.0,
                    deadline_seconds=3600.0,
                    workers=self.workers,
                )
            )
        )
        self.pipeline.upkeep.recover()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """A place of work."""
    with ExitStack() as stack:
        yield Place(tmp_path, stack)


def batch_of(count: int, *, named: bool = True) -> list[Found]:
    """Small summaries handed over in memory, each with its timestamp or all without."""
    batch = []
    for seed in range(count):
        summary = random_summary(seed, models=2)
        summary.pop("timestamp", None)
        if named:
            summary["timestamp"] = f"20250101_{seed // 3600:02}{seed // 60 % 60:02}{seed % 60:02}"
        batch.append(Found("", encoded(summary), None))
    return batch


def assert_all_archived(place: Place, batch: Sequence[Found]) -> None:
    """Each is one run, one entry, one event, and nothing is half made."""
    expected = [found.data for found in batch]
    assert_archive_whole(place.root, expected)
    owed = [row["event"] for row in outbox_of(place.state)]
    assert sorted(owed) == sorted(f"run:{sha256(data).hexdigest()[:16]}" for data in expected)
    assert place.pipeline.recorder.catalog.names() == set(place.pipeline.archive.names())
    assert [each for each in place.root.glob(".staging/*/*") if each.is_dir()] == []


def test_backlog_staged_by_workers_is_archived_whole_in_order(place: Place) -> None:
    """However many processes stage, every summary has its own outcome at its own place."""
    batch = batch_of(3 * GROUP + 5)

    outcomes = place.pipeline.process(batch)

    names = [outcome.run.timestamp for outcome in outcomes if isinstance(outcome, Archived)]
    assert len(names) == len(batch)
    assert names == sorted(names), "the batch's order is the outcomes' order"
    assert_all_archived(place, batch)
    place.pipeline.close()
    place.pipeline.archive.close()
    assert_nothing_half_made(place.root)


@pytest.mark.parametrize(("much", "groups"), [(crew_module.MUCH, [DRAFTS, GROUP, GROUP]), (1, [DRAFTS + 2 * GROUP])])
def test_first_of_a_backlog_is_committed_early_unless_that_writes_much_of_the_index(
    place: Place, monkeypatch: pytest.MonkeyPatch, much: int, groups: Sequence[int]
) -> None:
    """Old summaries in a large archive: a small first group would cost as much as all others together."""
    place.pipeline.process(batch_of(1))
    monkeypatch.setattr(crew_module, "MUCH", much)
    committed: list[int] = []
    commit = place.pipeline.archive.commit

    def noted(batch: Sequence[Staged]) -> object:
        committed.append(len(batch))
        return commit(batch)

    monkeypatch.setattr(place.pipeline.archive, "commit", noted)

    place.pipeline.process(batch_of(1 + DRAFTS + 2 * GROUP)[1:])

    assert committed == groups


def test_backlog_of_one_second_gives_every_run_its_own_name(place: Place) -> None:
    """Summaries without a timestamp, or all with the same: no two workers may take one name."""
    same = [Found("", encoded(random_summary(seed, models=1) | {"timestamp": NAME}), None) for seed in range(GROUP)]
    batch = batch_of(2 * GROUP, named=False) + same

    outcomes = place.pipeline.process(batch)

    names = {outcome.run.timestamp for outcome in outcomes if isinstance(outcome, Archived)}
    assert len(names) == len(batch)
    assert {NAME} | {f"{NAME}_{suffix}" for suffix in range(2, GROUP + 1)} <= names, "no number is left out"
    assert_all_archived(place, batch)


def test_backlog_with_every_kind_of_end_gives_each_its_own(place: Place) -> None:
    """Rejected, unfinished, twice and archived before: one batch, no outcome at a neighbour's place."""
    good = batch_of(3 * GROUP)
    place.pipeline.process(good[:1])
    bad, unfinished = Found("", b'{"models": []}', None), Found("", b'{"models": [', None)
    batch = [*good, bad, unfinished, good[7]]

    outcomes = place.pipeline.process(batch)

    assert isinstance(outcomes[0], AlreadyArchived)
    assert all(isinstance(outcome, Archived) for outcome in outcomes[1 : len(good)])
    rejected, waiting, twin = outcomes[len(good) :]
    assert isinstance(rejected, Rejected)
    assert isinstance(waiting, Unfinished)
    assert twin == AlreadyArchived("20250101_000007")


def test_worker_killed_in_a_backlog_costs_no_run(place: Place) -> None:
    """What it was given is staged by the walk itself."""
    batch = batch_of(4 * GROUP)
    os.kill(pids(place.workers)[0], signal.SIGKILL)
    place.workers.are_whole = lambda: True  # type: ignore[method-assign] # it dies after the look that found it alive

    outcomes = place.pipeline.process(batch)

    assert all(isinstance(outcome, Archived) for outcome in outcomes)
    expected = [found.data for found in batch]
    assert_archive_whole(place.root, expected)


def test_worker_that_stands_still_holds_up_no_stop(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A daemon that was told to stop ends its batch without the worker that somebody paused."""
    monkeypatch.setattr(crew_module, "STOP_SECONDS", 0.1)
    batch = batch_of(4 * GROUP)
    os.kill(pids(place.workers)[0], signal.SIGSTOP)

    place.pipeline.hurry()
    outcomes = place.pipeline.process(batch)

    assert all(isinstance(outcome, Archived) for outcome in outcomes)
    assert_archive_whole(place.root, [found.data for found in batch])


def test_worker_that_stands_still_is_killed_in_time(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody stopped it: the daemon does not wait for whoever did to let it go on."""
    monkeypatch.setattr(crew_module, "STOP_SECONDS", 0.1)
    monkeypatch.setattr(crew_module, "SILENCE_SECONDS", 0.3)
    batch = batch_of(2 * GROUP)
    os.kill(pids(place.workers)[0], signal.SIGSTOP)

    outcomes = place.pipeline.process(batch)

    assert all(isinstance(outcome, Archived) for outcome in outcomes)
    assert not place.workers.are_whole()
    assert all(isinstance(outcome, Archived) for outcome in place.pipeline.process(batch_of(6 * GROUP)[2 * GROUP :]))


def test_backlog_whose_commit_fails_is_postponed_and_leaves_nothing_staged(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the workers go on staging meanwhile is cleared away; the sources are still owed, and archived later."""
    batch = batch_of(4 * GROUP)
    with monkeypatch.context() as broken:

        def refuse(*_: object) -> None:
            raise RetryLater("no lock")

        broken.setattr(place.pipeline.archive, "commit", refuse)
        outcomes = place.pipeline.process(batch)

    assert all(isinstance(outcome, Postponed) for outcome in outcomes)
    assert [each for each in place.root.glob(".staging/*/*") if each.is_dir()] == []

    assert all(isinstance(outcome, Archived) for outcome in place.pipeline.process(batch))
    assert_all_archived(place, batch)
