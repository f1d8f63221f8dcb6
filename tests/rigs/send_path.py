"""The way of a message from a row that is owed to what is recorded of it, and a courier that is killed on it.

The rule: what counts is what the other side got. Whatever is recorded, each event arrives at least once, at most once
more for each crash and each answer that was lost, and of all that arrive at most one does not say that it may be a
repeat.
"""

import json
import re
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from processes import Site, destination, drop, make_site, modelwarden, outbox_of, until
from rigs.crash_scenes import scratch
from rigs.crash_subject import Orders, Report
from rigs.lives import Subjects
from rigs.system_calls import FILE_CALLS, SOCKET_CALLS, Point, Seen, killing, seen, traced, was_killed
from servers import Answer, HttpServer, Posted, http_server
from summaries import GOOD, encoded, flat_summary

MODULE: Final = "rigs.send_subject"
MARK: Final = "(possible repeat) "
CALLS: Final = (*FILE_CALLS, *SOCKET_CALLS)

_TELLING: Final = frozenset({*SOCKET_CALLS, "fdatasync", "fsync"})

LATER: Final = 3600.0
"""Seconds after which every pause is over."""

_FOLLOWERS: Final = 2
"""Couriers after which all must have arrived: the first may meet what the one before was killed too early for."""
_REACHED: Final = 0.8
"""Of the calls that an undisturbed courier made, the part that a disturbed one must come to at least."""


class Way(NamedTuple):
    """What a disturbed courier finds and meets.

    Attributes:
        runs: how many messages are owed.
        answer: what the service does with the first message that reaches it; everything after that is taken.
        stop: where the disturbance begins: "start", or "send" once what an earlier one left was put back.
        killed_at: a call at which an earlier courier was killed; "" for none.
        kind: of the destination: "chat" or "webhook", which are the service, or "file".
    """

    runs: int = 1
    answer: int | Answer = 200
    stop: str = "send"
    killed_at: str = ""
    kind: str = "chat"

    @property
    def lost_answers(self) -> int:
        """How many messages the service took and did not answer, where nobody is killed."""
        return int(self.answer is Answer.CLOSE)


WAYS: Final = {
    "one_message": Way(),
    "one_message_for_many": Way(runs=7),
    "a_message_that_is_refused": Way(answer=500),
    "a_message_whose_answer_is_lost": Way(answer=Answer.CLOSE),
    "a_courier_after_one_that_was_killed": Way(stop="start", killed_at="recvfrom"),
    "a_line_of_a_file": Way(kind="file"),
    "a_webhook": Way(kind="webhook"),
    "a_webhook_whose_answer_is_lost": Way(answer=Answer.CLOSE, kind="webhook"),
    "lines_of_a_file_for_many": Way(runs=7, kind="file"),
}


class Tally(NamedTuple):
    """What a sweep came to.

    Attributes:
        points: how often a courier was killed.
        events: how often an event was owed.
        repeats: how often one arrived once more.
        allowed: how often it might have.
    """

    points: int
    events: int
    repeats: int
    allowed: int

    def __str__(self) -> str:
        repeats = f"{self.repeats} repeats of {self.allowed} allowed"
        return f"{self.points} points, {self.events} messages owed, 0 lost, {repeats}"


class Post:
    """A place with messages that are owed, and the service that they are owed to.

    Args:
        folder: of everything.
        lives: the courier's.
        way: what it finds.
        server: the service.
    """

    def __init__(self, folder: Path, lives: Subjects, way: Way, server: HttpServer) -> None:
        self._lives = lives
        self._way = way
        self._server = server
        self._report = folder / "strace"
        self._kept = folder / "kept"
        self._file = folder / "events.jsonl"
        tables = {
            "chat": destination("team", server.url(), "APPROVED"),
            "file": _table("file", f'path = "{self._file}"'),
            "webhook": _table("webhook", f'url = "http://127.0.0.1:{server.port}/"', 'secret = "of-the-rig-of-kills"'),
        }
        self._site: Site = make_site(folder / "site", tables[way.kind])
        for number in range(way.runs):
            run = f"202401{number + 1:02d}_000000"
            drop(encoded(flat_summary({f"SYM{number}": GOOD}, timestamp=run)), self._site.out, f"{run}.json")
        archived = modelwarden("run", "--once", "--no-courier", "--config", self._site.config)
        assert archived.returncode == 0, archived.stderr
        shutil.copytree(self._site.state, self._kept)
        self._earlier: list[Posted] = []
        if way.killed_at:
            self._kill(Orders(str(self._site.config), stops=["send"]), Point(way.killed_at, 1))
            self._settle()
            shutil.rmtree(self._kept)
            shutil.copytree(self._site.state, self._kept)
            self._earlier = [*server.requests]

    @property
    def orders(self) -> Orders:
        """The disturbed courier's."""
        return Orders(str(self._site.config), stops=[self._way.stop])

    def calls(self) -> list[Seen]:
        """All that a courier does on the way, undisturbed."""
        self._put_back()
        with self._lives.life(self.orders) as life:
            life.stopped_at(self._way.stop)
            with traced(life.pid, self._report, calls=CALLS) as tracer:
                life.go_on()
                report = life.end()
                tracer.wait()
        self._assert_untroubled(report)
        return seen(self._report)

    def telling(self) -> list[Seen]:
        """The calls of the way before which a kill may leave something else than before the next one."""
        return [call for call in self.calls() if call.changes_files or call.point.call in _TELLING]

    def sweep(self, calls: Sequence[Seen]) -> Tally:
        """Kill a courier before each of the calls; let others follow it; look at what arrived."""
        wrong, repeats, killed = [], 0, 0
        for call in calls:
            self._put_back()
            killed += self._kill(self.orders, call.point)
            try:
                self._assert_nothing_claimed()
                self._let_others_follow()
                repeats += sum(self._arrived().values()) - self._way.runs
                self._assert_bounds()
            except AssertionError as error:
                wrong.append(f"{call}: {error}")
        assert not wrong, f"{len(wrong)} violations\n" + "\n".join(wrong)
        # How many calls an answer takes to be read is the network's to say: a courier may end before the last of them.
        assert killed >= _REACHED * len(calls), f"{len(calls) - killed} couriers did not come to where they were to die"
        events = killed * self._way.runs
        return Tally(killed, events, repeats, events * self._most_repeats)

    @property
    def _most_repeats(self) -> int:
        return 1 + self._way.lost_answers + bool(self._way.killed_at)

    def _put_back(self) -> None:
        shutil.rmtree(self._site.state)
        shutil.copytree(self._kept, self._site.state)
        self._file.unlink(missing_ok=True)
        self._server.requests[:] = self._server.accepted[:] = []
        self._server.requests += self._earlier
        self._server.accepted += self._earlier
        answers = iter([self._way.answer])
        self._server.answer = lambda _posted: next(answers, 200)

    def _kill(self, orders: Orders, point: Point) -> bool:
        with self._lives.life(orders) as life:
            life.stopped_at(*orders.stops)
            with traced(life.pid, self._report, calls=CALLS, inject=killing(point)) as tracer:
                life.go_on()
                life.end()
                tracer.wait()
        return was_killed(self._report)

    def _let_others_follow(self) -> None:
        """Some that deliver what is owed, and one that must find nothing to do."""
        for number in range(1, _FOLLOWERS + 1):
            self._live(number * LATER)
            if all(row["status"] == "delivered" for row in outbox_of(self._site.state)):
                break
        before = len(self._arrivals())
        self._live((_FOLLOWERS + 1) * LATER)
        assert len(self._arrivals()) == before, "something was sent again although nobody was killed"

    def _live(self, late: float) -> None:
        """A courier's life that nobody disturbs."""
        with self._lives.life(Orders(str(self._site.config), late=late)) as life:
            self._assert_untroubled(life.end())
        self._settle()

    def _settle(self) -> None:
        """Wait until the service has read all that was written to it: a courier may be gone before that."""
        until(lambda: self._server.is_idle, "the service to have read everything")

    def _reached(self) -> list[Posted]:
        """What the service may have acted on: what it took, and what it never answered."""
        refused = isinstance(self._way.answer, int) and self._way.answer != 200
        return self._server.accepted if refused else self._arrivals()

    def _arrivals(self) -> list[Posted]:
        """All that came: to the service, or as lines of the file."""
        if self._way.kind == "chat":
            return self._server.requests
        if self._way.kind == "webhook":
            return [_posted(posted.body.decode()) for posted in self._server.requests]
        whole = self._file.read_text(encoding="utf-8") if self._file.exists() else ""
        return [_posted(line) for line in whole.splitlines()]

    def _arrived(self) -> Counter[str]:
        """How often each run arrived."""
        return Counter(symbol for posted in self._reached() for symbol in _symbols(posted))

    def _assert_nothing_claimed(self) -> None:
        """What is recorded as delivered was taken."""
        rows = outbox_of(self._site.state)
        assert len(rows) == self._way.runs, "a row is gone"
        if any(row["status"] == "delivered" for row in rows):
            self._settle()
            taken = self._arrivals() if self._way.kind == "file" else self._server.accepted
            assert len(taken) > len(self._earlier), "recorded as delivered, and nobody got it"

    def _assert_bounds(self) -> None:
        stand = {row["status"] for row in outbox_of(self._site.state)}
        assert stand == {"delivered"}, f"lost: rows are {stand}"
        arrived = self._arrived()
        assert len(arrived) == self._way.runs, f"lost: {self._way.runs} were owed, {len(arrived)} arrived"
        assert max(arrived.values()) <= 1 + self._most_repeats, f"flood: {arrived}"
        unmarked = [posted for posted in self._reached() if not posted.title.startswith(MARK)]
        assert len(unmarked) <= (self._way.runs if self._way.kind == "file" else 1), (
            "a repeat does not say that it may be one"
        )

    def _assert_untroubled(self, report: Report | None) -> None:
        assert report is not None, "nobody killed it"
        assert not report.ended, report.ended
        assert not report.unforeseen, report.unforeseen


def _table(kind: str, *settings: str) -> str:
    lines = ["[[notify.destination]]", 'name = "team"', f'kind = "{kind}"', 'on = ["APPROVED"]', *settings, ""]
    return "\n".join(lines)


def _posted(line: str) -> Posted:
    """An event, a line of the file or a request, as if it had come as a message."""
    event = json.loads(line)
    title = f"{MARK if event.get('possiblerepeat') else ''}{event['id']}"
    return Posted("", "", {}, json.dumps({"title": title, "message": line}).encode())


def _symbols(posted: Posted) -> set[str]:
    return set(re.findall(r"SYM\d+", posted.text))


@contextmanager
def post(way: Way, lives: Subjects) -> Iterator[Post]:
    """A place where messages are owed."""
    with scratch() as folder, http_server() as server:
        yield Post(folder, lives, way, server)
