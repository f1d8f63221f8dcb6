"""A message says in its title how many may go where, and names only what a destination asked for, with figures."""

import math
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelwarden.gate.thresholds import ModelGatingConfig
from modelwarden.sinks.chat.digest import (
    MODELS_NAMED,
    RUNS_NAMED,
    Message,
    RunNews,
    many_runs_message,
    problem_message,
    rejected_message,
    run_message,
)
from modelwarden.sinks.chat.page import LONGEST_TEXT, LONGEST_TITLE, REPEAT_MARK, size
from pages import html_of
from summaries import BAD, GOOD, MIDDLING, flat_summary, judged_run, random_summary, series_summary

pure = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

ALL = ("APPROVED", "REVIEW", "DROP")
TAIL = ["host: trainer-7", "report: /training_archives/20241224_153000/recommendations.md"]


def news_of(
    summary: Mapping[str, Any],
    timestamp: str = "20241224_153000",
    config: ModelGatingConfig | None = None,
    host: str = "trainer-7",
) -> RunNews:
    """What the courier would know of an archived run."""
    run, assessments = judged_run(summary, timestamp=timestamp, config=config)
    return RunNews(
        timestamp=timestamp,
        run_name=run.run_name,
        host=host,
        report=f"/training_archives/{timestamp}/recommendations.md",
        counts=run.counts,
        policy=run.policy,
        assessments=assessments,
    )


def news_of_one(**figures: Any) -> RunNews:
    """A run of one model, good but for these figures."""
    return news_of(flat_summary({"AAPL": GOOD | figures}))


def lines_about(news: RunNews, on: tuple[str, ...] = ALL) -> list[str]:
    """The lines that name models."""
    return [line for line in run_message(news, on).body.splitlines() if line.startswith("- ")]


def test_run_message_title_has_the_three_counts_the_run_and_the_host() -> None:
    """The line that a phone shows says it all."""
    models = {f"A{index}": GOOD for index in range(3)}
    models |= {f"R{index}": MIDDLING for index in range(5)}
    models |= {f"D{index}": BAD for index in range(42)}
    title = run_message(news_of(flat_summary(models)), ALL).title
    assert title == "APPROVED 3 · REVIEW 5 · DROP 42: run 20241224_153000 (trainer-7)"


def test_run_message_title_of_a_long_host_name_is_cut() -> None:
    """Counts and run are never crowded out; the text has the name whole."""
    news = news_of(flat_summary(), host=f"{'trainer-' * 20}7")
    message = run_message(news, ALL, repeated=True)
    assert message.title.startswith("(possible repeat) APPROVED 1 · REVIEW 1 · DROP 1: run 20241224_153000 (trainer-")
    assert message.title.endswith("…)")
    assert size(message.title) == LONGEST_TITLE
    assert f"host: {news.host}" in message.body.splitlines()


@pytest.mark.parametrize("on", [(), ("APPROVED",), ("APPROVED", "DROP"), ALL])
def test_run_message_title_has_all_counts_whatever_was_asked_for(on: tuple[str, ...]) -> None:
    """Who asks for APPROVED alone still sees that much was dropped."""
    assert run_message(news_of(flat_summary()), on).title.startswith("APPROVED 1 · REVIEW 1 · DROP 1: ")


@pytest.mark.parametrize(
    ("on", "named"),
    [
        (("APPROVED",), ["GOOD"]),
        (("APPROVED", "DROP"), ["GOOD", "BAD"]),
        (("DROP", "APPROVED"), ["GOOD", "BAD"]),
        (("REVIEW",), ["MIDDLING"]),
        (ALL, ["GOOD", "MIDDLING", "BAD"]),
        ((), []),
    ],
)
def test_run_message_names_only_the_classes_asked_for_best_first(on: tuple[str, ...], named: list[str]) -> None:
    """A destination reads what it asked for, in the order of the title."""
    body = run_message(news_of(flat_summary()), on).body
    assert [line.split(":")[0].removeprefix("- ") for line in lines_about(news_of(flat_summary()), on)] == named
    for classification in ALL:
        assert (f"{classification} (1)" in body) is (classification in on)
    for symbol in ("GOOD", "MIDDLING", "BAD"):
        assert (symbol in body) is (symbol in named)


def test_run_message_body_is_as_a_person_reads_it() -> None:
    """The whole text once, as it goes out."""
    summary = flat_summary(
        {"AAPL": {**GOOD, "fitness_history": [0.5, 0.99, 0.91]}, "MSFT": {**GOOD, "final_pf": 1.1}, "TSLA": MIDDLING},
        run_name="nightly",
        validation_interval=50,
    )
    figures = "fitness 0.91 >= 0.70, profit factor 2.40 >= 1.80, consistency 0.90 >= 0.85, max drawdown 0.04 <= 0.08"
    assert run_message(news_of(summary), ("APPROVED", "DROP")).body.splitlines() == [
        "APPROVED (1)",
        f"- AAPL: {figures}, use checkpoint 100 instead of the last; its other figures there are not known",
        "",
        "DROP (1)",
        "- MSFT: profit factor 1.10 < 1.30",
        "",
        "run name: nightly",
        *TAIL,
    ]


def test_run_message_without_a_run_name_has_no_line_for_it() -> None:
    """No empty fields, no None."""
    assert run_message(news_of(flat_summary()), ()).body.splitlines() == TAIL


@pytest.mark.parametrize(
    ("figures", "said"),
    [
        ({"final_fitness": 0.6999999}, "fitness 0.6999999 < 0.7000000"),
        ({"final_max_dd": 0.1}, "max drawdown 0.10 > 0.08"),
        ({"final_fitness": 0.2, "final_consistency": 0.7}, "fitness 0.20 < 0.50"),
        ({"final_consistency": 88}, "consistency 88 is outside 0..1: is it a percentage?"),
        ({"final_max_dd": -0.3}, "max drawdown -0.3 is negative: give the size of the fall"),
        ({"final_pf": math.nan}, "profit factor is not a number (NaN)"),
        ({"final_pf": None, "final_fitness": 0.1}, "fitness 0.10 < 0.50, profit factor is missing"),
        ({"final_pf": math.inf}, "profit factor is infinite (no losing trade): a person looks"),
    ],
)
def test_run_message_names_the_figures_that_decided_with_their_bounds(figures: dict[str, Any], said: str) -> None:
    """What decided the class, and nothing that did not."""
    assert lines_about(news_of_one(**figures)) == [f"- AAPL: {said}"]


def test_run_message_shows_the_bounds_of_the_policy_that_judged() -> None:
    """A team with bounds of its own reads its own bounds, to the last digit."""
    config = ModelGatingConfig(approved_min_fitness=0.925)
    assert lines_about(news_of(flat_summary({"AAPL": GOOD}), config=config)) == ["- AAPL: fitness 0.910 < 0.925"]


def test_run_message_says_why_a_model_with_four_good_figures_is_in_review() -> None:
    """An uncalibrated reward scale is the reason, and it is named."""
    news = news_of(flat_summary({"AAPL": GOOD}, reward_scale=0.01))
    assert lines_about(news, ("REVIEW",)) == ["- AAPL: uncalibrated reward scale"]


def test_run_message_warns_of_unstable_training() -> None:
    """An approved model that swung in training is named as one."""
    (line,) = lines_about(news_of_one(fitness_history=[0.9, 0.5, 0.91]))
    assert line.endswith(", unstable training")


@pytest.mark.parametrize(
    ("fields", "advice"),
    [
        ({}, "use the checkpoint of validation point 2 instead of the last"),
        ({"validation_interval": 75}, "use checkpoint 150 instead of the last"),
        ({"checkpoints": ["a", "best", "last"]}, "use checkpoint best instead of the last"),
    ],
)
def test_run_message_advises_the_checkpoint_of_a_declined_model(fields: dict[str, Any], advice: str) -> None:
    """What to load instead, as exactly as it is known."""
    (line,) = lines_about(news_of_one(fitness_history=[0.5, 0.99, 0.91], **fields))
    assert line.endswith(f", {advice}; its other figures there are not known")


LAST = (0.91, 2.4, 0.9, 0.04)


def test_run_message_advises_a_peak_that_is_approved_in_bold() -> None:
    """What to do is bold in a mail, what is known of it is not."""
    news = news_of(series_summary({"AAPL": [(0.99, 2.4, 0.9, 0.04), LAST]}, validation_interval=50))
    (line,) = lines_about(news)
    assert line.endswith(", use checkpoint 50 instead of the last; its figures there: APPROVED")
    html = html_of(run_message(news, ALL))
    assert "<strong>use checkpoint 50 instead of the last</strong>; its figures there: APPROVED" in html


@pytest.mark.parametrize("many", [False, True])
def test_message_tells_of_a_peak_that_is_not_approved_and_advises_nothing(many: bool) -> None:
    """Not as an instruction, not in bold: at that checkpoint the model would be DROP."""
    news = news_of(series_summary({"AAPL": [(0.99, 1.1, 0.9, 0.04), LAST]}, validation_interval=50))
    message = many_runs_message([news, news], ALL) if many else run_message(news, ALL)
    note = "peaked at 50; its figures there: DROP (profit factor 1.10 < 1.30)"
    assert note in message.body
    assert "use checkpoint" not in message.body
    assert "profit factor 1.10 &lt; 1.30" in html_of(message)
    assert "<strong>peaked" not in html_of(message)
    assert "<strong>use" not in html_of(message)


def test_run_message_of_a_dropped_model_advises_nothing() -> None:
    """What must not be deployed has no checkpoint to use."""
    (line,) = lines_about(news_of_one(**{**BAD, "fitness_history": [0.9, 0.2]}))
    assert line.endswith(", peaked at validation point 1; its other figures there are not known")


def test_run_message_says_which_figures_contradict_each_other() -> None:
    """A model in REVIEW with four good figures is there for a reason, and it is named."""
    news = news_of_one(fitness_history=[0.5, 0.93])
    contradiction = "figures contradict each other: final_fitness is 0.91, but fitness_history ends at 0.93"
    assert lines_about(news, ("REVIEW",)) == [f"- AAPL: {contradiction}"]
    news = news_of_one(final_pf=2.0, metrics={"profit_factor": [1.0], "consistency": [0.1]})
    (line,) = lines_about(news, ("REVIEW",))
    assert line.endswith("final_pf is 2.0, but metrics.profit_factor ends at 1.0 (and 1 more)")


def test_run_message_of_a_long_list_is_cut_with_a_count() -> None:
    """Fifty dropped models are a number, not a wall; the heading has the whole count."""
    models = {f"M{index:02d}": BAD for index in range(MODELS_NAMED + 7)}
    body = run_message(news_of(flat_summary(models)), ALL).body
    assert f"DROP ({MODELS_NAMED + 7})" in body
    assert len(lines_about(news_of(flat_summary(models)))) == MODELS_NAMED
    assert "… and 7 more" in body
    assert f"M{MODELS_NAMED - 1:02d}" in body
    assert f"M{MODELS_NAMED:02d}" not in body


def test_run_message_of_a_list_that_just_fits_is_whole() -> None:
    """No "and 0 more"."""
    models = {f"M{index:02d}": GOOD for index in range(MODELS_NAMED)}
    body = run_message(news_of(flat_summary(models)), ALL).body
    assert len(lines_about(news_of(flat_summary(models)))) == MODELS_NAMED
    assert "more" not in body


@pytest.mark.parametrize("repeated", [False, True])
def test_message_that_may_be_a_repeat_says_so_in_its_title(repeated: bool) -> None:
    """Sent again after a crash: the reader is told, and the rest is the same."""
    news = news_of(flat_summary())
    for once, again in (
        (run_message(news, ALL), run_message(news, ALL, repeated=repeated)),
        (many_runs_message([news, news], ALL), many_runs_message([news, news], ALL, repeated=repeated)),
        (rejected_message(["x"]), rejected_message(["x"], repeated=repeated)),
        (problem_message(["x"]), problem_message(["x"], repeated=repeated)),
    ):
        assert again.title == (f"(possible repeat) {once.title}" if repeated else once.title)
        assert again[1:] == once[1:]
    assert REPEAT_MARK == "(possible repeat) "


def test_many_runs_message_stands_for_all_of_them() -> None:
    """Counts over all runs, the models asked for with their run, and each run with its own counts."""
    first = news_of(flat_summary(), "20241224_153000")
    second = news_of(flat_summary({"AAPL": GOOD, "MSFT": BAD}), "20241225_153000")
    message = many_runs_message([first, second], ("APPROVED",))
    assert message.title == "APPROVED 2 · REVIEW 1 · DROP 2: 2 runs (trainer-7)"
    assert message.body.splitlines() == [
        "APPROVED (2)",
        "- GOOD: run 20241224_153000",
        "- AAPL: run 20241225_153000",
        "",
        "Runs (2)",
        "- 20241224_153000: APPROVED 1, REVIEW 1, DROP 1",
        "- 20241225_153000: APPROVED 1, REVIEW 0, DROP 1",
        "",
        "host: trainer-7",
        "reports: /training_archives/RUN/recommendations.md",
    ]


def test_many_runs_message_names_the_approved_models_of_all_first() -> None:
    """What may be deployed comes first, with the checkpoint to take, whichever run it is of."""
    first = news_of(flat_summary({"BAD": BAD, "SOSO": MIDDLING}), "20241224_153000")
    declined = {**GOOD, "fitness_history": [0.5, 0.99, 0.91]}
    second = news_of(flat_summary({"AAPL": declined}, validation_interval=50), "20241225_153000")
    body = many_runs_message([first, second], ALL).body
    assert [line for line in body.splitlines() if line.startswith("- ")][:3] == [
        "- AAPL: run 20241225_153000, use checkpoint 100 instead of the last; its other figures there are not known",
        "- SOSO: run 20241224_153000",
        "- BAD: run 20241224_153000",
    ]


def test_many_runs_message_of_several_hosts_names_the_host_of_each_run() -> None:
    """One state file's runs are one host's, but for a host that was renamed."""
    news = [news_of(flat_summary({"A": GOOD}), f"2024122{day}_153000", host=f"trainer-{day}") for day in (4, 5)]
    message = many_runs_message(news, ())
    assert message.title == "APPROVED 2 · REVIEW 0 · DROP 0: 2 runs (2 hosts)"
    assert message.body.splitlines()[1] == "- 20241224_153000: APPROVED 1, REVIEW 0, DROP 0, host trainer-4"
    assert "host:" not in message.body


def test_many_runs_message_of_one_run_still_names_it() -> None:
    """The other messages that it stands for are of another kind."""
    message = many_runs_message([news_of(flat_summary())], ("APPROVED",))
    assert message.body.splitlines()[:2] == ["APPROVED (1)", "- GOOD: run 20241224_153000"]


def test_many_runs_message_of_many_runs_is_cut_with_counts() -> None:
    """A thousand runs after a week of downtime fit one message, and the approved models are cut last."""
    news = [news_of(flat_summary(), f"20241224_{index:06d}") for index in range(1000)]
    message = many_runs_message(news, ALL)
    assert message.title == "APPROVED 1000 · REVIEW 1000 · DROP 1000: 1000 runs (trainer-7)"
    named = {}
    for block in message.body.split("\n\n")[:-1]:
        heading, *lines, left_out = block.splitlines()
        named[heading] = len(lines)
        assert left_out == f"… and {1000 - len(lines)} more"
    assert list(named) == ["APPROVED (1000)", "REVIEW (1000)", "DROP (1000)", "Runs (1000)"]
    assert named["APPROVED (1000)"] == RUNS_NAMED
    assert min(named.values()) >= RUNS_NAMED - 5
    assert size(message.body) <= LONGEST_TEXT


def test_rejected_message_says_file_host_and_reason_at_once() -> None:
    """A lock screen says which and why; the first line has the whole path; what else there is to know comes below."""
    text = "/out/x.json\nmodels[0].final_pf: expected a number\nkept in /archive/rejected/ab\nhost: trainer-7"
    message = rejected_message([text])
    assert message.title == "REJECTED: x.json: models[0].final_pf: expected a number (trainer-7)"
    assert message.body.split("\n") == [
        "/out/x.json on trainer-7: models[0].final_pf: expected a number",
        "kept in /archive/rejected/ab",
    ]


def test_rejected_message_of_long_names_keeps_the_beginning_of_all_three() -> None:
    """A file name of 255 characters takes neither the reason nor the host from the title."""
    text = f"/out/{'x' * 250}.json\n{'why ' * 100}\nkept in /archive\nhost: trainer-7"
    message = rejected_message([text])
    assert message.title.startswith(f"REJECTED: {'x' * 59}…: why why")
    assert message.title.endswith("… (trainer-7)")
    assert f"{'x' * 250}.json on trainer-7: why why" in message.body.split("\n")[0]


def test_rejected_message_of_a_row_written_before_hosts_were_is_whole() -> None:
    """An outbox may owe what an earlier version worded."""
    message = rejected_message(["/out/x.json\nno models\nkept in /archive/rejected/ab"])
    assert message.title == "REJECTED: x.json: no models"
    assert message.body == "/out/x.json: no models\nkept in /archive/rejected/ab"


def test_rejected_message_of_many_files_is_cut_with_a_count() -> None:
    """A folder full of garbage is one message of bounded length, whose title names some."""
    texts = [f"/out/f{index}\nno models\nhost: trainer-{index % 2}" for index in range(MODELS_NAMED + 3)]
    message = rejected_message(texts)
    names = ", ".join(f"f{index}" for index in range(MODELS_NAMED))
    assert message.title == f"REJECTED: {MODELS_NAMED + 3} summaries: {names} (2 hosts)"
    told = [f"/out/f{index} on trainer-{index % 2}: no models" for index in range(MODELS_NAMED)]
    assert message.body.split("\n\n") == [*told, "… and 3 more"]


@pytest.mark.parametrize(
    ("text", "title", "body"),
    [
        (
            "/archive: no space left\nwaiting since 04:12\nhost: trainer-8",
            "PROBLEM: /archive: no space left (trainer-8)",
            "waiting since 04:12",
        ),
        ("\n no summary for 26 h \nlast one: x", "PROBLEM: no summary for 26 h (trainer-7)", "last one: x"),
        ("", "PROBLEM: no details (trainer-7)", "no details"),
        ("a\rb", "PROBLEM: a\\u000db (trainer-7)", "a\\u000db"),
        (f"{'w' * 200}\nx", f"PROBLEM: {'w' * 110}… (trainer-7)", f"{'w' * 200}\nx"),
    ],
)
def test_problem_message_says_what_its_title_does_not(text: str, title: str, body: str) -> None:
    """What is wrong and where is on the lock screen; the text has the rest, and repeats only what was cut."""
    message = problem_message([text], host="trainer-7")
    assert message.title == title
    assert message.body == body


def test_problem_s_html_says_each_thing_once() -> None:
    """The heading says what and where, and nothing below repeats it."""
    message = problem_message(["no space left\nnothing is lost\nhost: trainer-7"])
    page = html_of(message).partition("<body")[2]
    assert [page.count(words) for words in ("no space left", "trainer-7", "nothing is lost")] == [1, 1, 1]


def test_problem_message_of_several_is_counted() -> None:
    """The title has the count and the beginnings, the text has each."""
    message = problem_message(["no space left\nhost: a", "the watch was lost\nsee the log\nhost: a"])
    assert message.title == "PROBLEM: 2 reports: no space left; the watch was lost (a)"
    assert message.body == "no space left\n\nthe watch was lost\nsee the log"


def test_message_without_html_is_one() -> None:
    """What is made by hand, such as a test message, need have none."""
    assert Message("title", "body").page is None


@pytest.mark.parametrize("symbol", ["<!channel>", "*bold*", "{x} %s", "日経 \N{ROCKET}", "[a](b)"])
def test_message_shows_a_symbol_as_it_is(symbol: str) -> None:
    """The text is plain: nothing is escaped here, and nothing is a format."""
    news = news_of(flat_summary({symbol: GOOD}))
    assert f"- {symbol}: fitness" in run_message(news, ALL).body
    assert f"- {symbol}: run 20241224_153000" in many_runs_message([news, news], ALL).body


@pure
@given(st.integers(0, 10_000), st.integers(1, 60), st.sets(st.sampled_from(ALL)))
def test_run_message_of_any_run_names_every_model_asked_for_or_counts_it(
    seed: int, models: int, asked: set[str]
) -> None:
    """Nobody is left out without being counted, nobody is named twice, and the message keeps its length."""
    news = news_of(random_summary(seed, models=models, points=4))
    body = run_message(news, asked).body
    *lists, _ = body.split("\n\n")
    assert len(lists) == sum(news.counts[each] > 0 for each in news.counts if each in asked)
    for classification, block in zip(
        [each for each in news.counts if each in asked and news.counts[each]], lists, strict=True
    ):
        heading, *lines = block.splitlines()
        assert heading == f"{classification} ({news.counts[classification]})"
        named = [line for line in lines if line.startswith("- ")]
        assert len({line.split(":")[0] for line in named}) == len(named) <= MODELS_NAMED
        left_out = news.counts[classification] - len(named)
        assert lines[len(named) :] == ([f"… and {left_out} more"] if left_out else [])
    assert size(body) <= LONGEST_TEXT


def test_run_that_supersedes_another_says_which() -> None:
    """Whoever reads the message alone knows that the trainer wrote the same file again."""
    news = news_of_one()._replace(supersedes="20241224_120000")
    assert "supersedes: 20241224_120000" in run_message(news, ALL).body
    assert "supersedes" not in run_message(news_of_one(), ALL).body
