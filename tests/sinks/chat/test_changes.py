"""What changed since a symbol's last run stands first in a digest, and is all that some destinations are told."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from courier.test_delivery import Desk
from modelwarden.gate.assessment import Classification
from modelwarden.sinks.chat.destinations import Destination
from modelwarden.sinks.chat.digest import ModelChange, RunNews, many_runs_message, run_message
from pages import html_of
from servers import HttpServer, http_server
from summaries import BAD, GOOD, MIDDLING, flat_summary, judged_run

pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")  # Apprise's import

CHANGED = ("CHANGED",)
ALL = ("APPROVED", "REVIEW", "DROP")


@pytest.fixture
def server() -> Iterator[HttpServer]:
    """A service that takes everything."""
    with http_server() as server:
        yield server


def desk_of(folder: Path, stack: ExitStack, *on: str) -> Desk:
    """A state file whose one destination asked for these."""
    desk = Desk(folder, {"team": on})
    stack.callback(desk.close)
    return desk


def day(number: int, models: Mapping[str, Mapping[str, Any]], **fields: Any) -> dict[str, Any]:
    """The run of that day of December."""
    return flat_summary(models, timestamp=f"202412{number:02}_150000", **fields)


def told(desk: Desk, server: HttpServer, *on: str, symbols: Sequence[str] = ("*",)) -> list[str]:
    """The titles and texts of what the team hears now."""
    heard = len(server.accepted)
    desk.now += 100
    desk.courier(Destination("team", server.url(), on, symbols)).deliver_due()
    return [f"{each.title}\n{each.text}" for each in server.accepted[heard:]]


def test_digest_begins_with_what_changed_and_the_title_counts_it(
    tmp_path: Path, stack: ExitStack, server: HttpServer
) -> None:
    """From which class to which; a model that is as it was, or is new, is not among them."""
    desk = desk_of(tmp_path, stack, *ALL)
    desk.archives(day(1, {"AAPL": GOOD, "MSFT": BAD, "GOOG": GOOD}))
    (first,) = told(desk, server, *ALL)
    assert "CHANGED" not in first
    desk.archives(day(2, {"AAPL": BAD, "MSFT": GOOD, "GOOG": GOOD, "NEW": BAD}))
    (second,) = told(desk, server, *ALL)
    title, *lines = second.splitlines()
    assert title == "APPROVED 2 · REVIEW 0 · DROP 2 · CHANGED 2: run 20241202_150000 (trainer-7)"
    assert lines[:4] == ["CHANGED (2)", "- AAPL: APPROVED -> DROP", "- MSFT: DROP -> APPROVED", ""]
    assert lines[4] == "APPROVED (2)"


def test_destination_that_asked_for_changes_alone_hears_of_them_alone(
    tmp_path: Path, stack: ExitStack, server: HttpServer
) -> None:
    """With the figures that decided; a first run and one in which nothing changed are no message."""
    desk = desk_of(tmp_path, stack, *CHANGED)
    desk.archives(day(1, {"AAPL": GOOD, "MSFT": MIDDLING}))
    desk.archives(day(2, {"AAPL": GOOD, "MSFT": MIDDLING}))
    assert told(desk, server, *CHANGED) == []
    assert desk.rows() == []
    desk.archives(day(3, {"AAPL": GOOD | {"final_pf": 1.1}, "MSFT": MIDDLING}))
    (message,) = told(desk, server, *CHANGED)
    title, heading, row, empty, *_ = message.splitlines()
    assert title == "APPROVED 0 · REVIEW 1 · DROP 1 · CHANGED 1: run 20241203_150000 (trainer-7)"
    assert (heading, empty) == ("CHANGED (1)", "")
    assert row == "- AAPL: APPROVED -> DROP, profit factor 1.10 < 1.30"
    desk.archives(day(4, {"MSFT": MIDDLING}))
    desk.archives(day(5, {"AAPL": GOOD}))
    (message,) = told(desk, server, *CHANGED)
    assert "- AAPL: DROP -> APPROVED, " in message, "the last run that has the symbol counts"


def test_backfill_compares_each_run_with_the_one_before_it_in_time(
    tmp_path: Path, stack: ExitStack, server: HttpServer
) -> None:
    """However they arrive: an old summary is no news about what came after it."""
    desk = desk_of(tmp_path, stack, *CHANGED)
    desk.archives(day(10, {"AAPL": GOOD}))
    desk.archives(day(1, {"AAPL": BAD}))  # the first of all, though it came last
    assert told(desk, server, *CHANGED) == []
    desk.archives(day(3, {"AAPL": BAD}), day(2, {"AAPL": BAD}), day(12, {"AAPL": GOOD}), day(11, {"AAPL": GOOD}))
    assert told(desk, server, *CHANGED) == []
    desk.archives(day(14, {"AAPL": BAD}), day(13, {"AAPL": GOOD}))
    (message,) = told(desk, server, *CHANGED)
    assert "20241214_150000" in message.splitlines()[0]


def test_change_is_told_to_who_asked_for_either_class(tmp_path: Path, stack: ExitStack, server: HttpServer) -> None:
    """Who hears of the approved hears that one is approved no more, in a message that is owed for another."""
    desk = desk_of(tmp_path, stack, "APPROVED")
    desk.archives(day(1, {"AAPL": GOOD, "MSFT": GOOD, "GOOG": BAD}))
    told(desk, server, "APPROVED")
    desk.archives(day(2, {"AAPL": GOOD, "MSFT": MIDDLING, "GOOG": MIDDLING}))
    (message,) = told(desk, server, "APPROVED")
    assert "CHANGED (1)\n- MSFT: APPROVED -> REVIEW, " in message
    assert "GOOG" not in message


def test_symbols_choose_among_changes_too(tmp_path: Path, stack: ExitStack, server: HttpServer) -> None:
    """In the text and in the counts."""
    desk = desk_of(tmp_path, stack, *ALL)
    desk.archives(day(1, {"BTC": GOOD, "ETH": GOOD, "XAU": GOOD}))
    told(desk, server, *ALL)
    desk.archives(day(2, {"BTC": BAD, "ETH": BAD, "XAU": BAD}))
    (message,) = told(desk, server, *CHANGED, symbols=("BTC*", "ETH*"))
    assert "DROP 2 · CHANGED 2: " in message
    assert "XAU" not in message


def test_bundle_says_what_changed_over_all_its_runs(tmp_path: Path, stack: ExitStack, server: HttpServer) -> None:
    """Beside what was before the first; what changed and changed back did not."""
    desk = desk_of(tmp_path, stack, *ALL)
    desk.archives(day(1, {"AAPL": GOOD, "MSFT": GOOD}))
    told(desk, server, *ALL)
    good, bad = {"AAPL": GOOD, "MSFT": BAD}, {"AAPL": BAD, "MSFT": BAD}
    desk.archives(*(day(2 + number, bad if number % 2 else good) for number in range(7)))
    (message,) = told(desk, server, *ALL)
    title, *lines = message.splitlines()
    assert title == "APPROVED 4 · REVIEW 0 · DROP 10 · CHANGED 1: 7 runs (trainer-7)"
    assert lines[:2] == ["CHANGED (1)", "- MSFT: APPROVED -> DROP, run 20241208_150000"]


def changed_news(count: int, *, other_policy: bool = False) -> RunNews:
    """A run of so many models, all of which were approved before."""
    run, models = judged_run(flat_summary({f"SYM{number:03}": BAD for number in range(count)}))
    changes = [ModelChange(model, Classification.APPROVED, other_policy) for model in models[:10]]
    news = RunNews(run.timestamp, None, "trainer-7", "/r", run.counts, run.policy, models)
    return news._replace(changes=changes, changed={Classification.DROP: count})


def test_change_under_another_policy_says_so() -> None:
    """Other bounds make other classes of the same figures."""
    body = run_message(changed_news(1, other_policy=True), ALL).body
    assert body.startswith("CHANGED (1)\n- SYM000: APPROVED -> DROP, judged by another policy before\n")


def test_changes_are_cut_with_a_count_in_text_and_html() -> None:
    """Of 25 the first ten, and how many more there are."""
    for message in (run_message(changed_news(25), CHANGED), many_runs_message([changed_news(25)], CHANGED)):
        assert "CHANGED 25: " in message.title
        for text in (message.body, html_of(message)):
            assert "… and 15 more" in text
            assert "CHANGED (25)" in text
        assert message.severity == "warning"
