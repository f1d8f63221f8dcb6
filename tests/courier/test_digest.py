"""A message says in its title how many may go where, and names only what a destination asked for, with figures."""

import math
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelwarden.courier.digest import (
    MODELS_NAMED,
    REPEAT_MARK,
    RUNS_NAMED,
    RunNews,
    many_runs_message,
    rejected_message,
    run_message,
)
from modelwarden.gate.policy import ModelGatingConfig
from summaries import BAD, GOOD, MIDDLING, flat_summary, judged_run, random_summary

pure = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

ALL = ("APPROVED", "REVIEW", "DROP")
TAIL = ["host: trainer-7", "report: /training_archives/20241224_153000/recommendations.md"]


def news_of(
    summary: Mapping[str, Any], timestamp: str = "20241224_153000", config: ModelGatingConfig | None = None
) -> RunNews:
    """What the courier would know of an archived run."""
    run, assessments = judged_run(summary, timestamp=timestamp, config=config)
    return RunNews(
        timestamp=timestamp,
        run_name=run.run_name,
        host=run.archived_by,
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


def test_run_message_title_has_the_three_counts_and_the_run() -> None:
    """The line that a phone shows says it all."""
    models = {f"A{index}": GOOD for index in range(3)}
    models |= {f"R{index}": MIDDLING for index in range(5)}
    models |= {f"D{index}": BAD for index in range(42)}
    title = run_message(news_of(flat_summary(models)), ALL).title
    assert title == "APPROVED 3 · REVIEW 5 · DROP 42: run 20241224_153000"


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
        f"- AAPL: {figures}, use checkpoint 100 instead of the last",
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
def test_run_message_names_the_figures_that_decided_beside_the_bounds_they_missed(
    figures: dict[str, Any], said: str
) -> None:
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
    assert line.endswith(f", {advice}")


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
    ):
        assert again.title == (f"(possible repeat) {once.title}" if repeated else once.title)
        assert again.body == once.body
    assert REPEAT_MARK == "(possible repeat) "


def test_many_runs_message_stands_for_all_of_them() -> None:
    """Counts over all runs, the models asked for with their run, and each run with its own counts."""
    first = news_of(flat_summary(), "20241224_153000")
    second = news_of(flat_summary({"AAPL": GOOD, "MSFT": BAD}), "20241225_153000")
    message = many_runs_message([first, second], ("APPROVED",))
    assert message.title == "APPROVED 2 · REVIEW 1 · DROP 2: 2 runs"
    assert message.body.splitlines() == [
        "APPROVED (2)",
        "- GOOD (20241224_153000)",
        "- AAPL (20241225_153000)",
        "",
        "Runs",
        "- 20241224_153000: APPROVED 1 · REVIEW 1 · DROP 1",
        "- 20241225_153000: APPROVED 1 · REVIEW 0 · DROP 1",
    ]


def test_many_runs_message_of_many_runs_is_cut_with_counts() -> None:
    """A thousand runs after a week of downtime fit one message."""
    news = [news_of(flat_summary(), f"20241224_{index:06d}") for index in range(RUNS_NAMED + 5)]
    message = many_runs_message(news, ALL)
    assert message.title == "APPROVED 25 · REVIEW 25 · DROP 25: 25 runs"
    assert message.body.count("… and 5 more") == 4
    for heading in ("APPROVED (25)", "REVIEW (25)", "DROP (25)"):
        assert heading in message.body
    assert len([line for line in message.body.splitlines() if line.startswith("- ")]) == 4 * RUNS_NAMED


def test_rejected_message_of_one_file_has_its_text() -> None:
    """The file, the reason and where it is kept."""
    text = "/training_output/x.json\nmodels[0].final_pf: expected a number\nkept in /archive/rejected/ab"
    message = rejected_message([text])
    assert message.title == "REJECTED: a summary"
    assert message.body == text


def test_rejected_message_of_many_files_is_cut_with_a_count() -> None:
    """A folder full of garbage is one message of bounded length."""
    texts = [f"file {index}" for index in range(MODELS_NAMED + 3)]
    message = rejected_message(texts)
    assert message.title == f"REJECTED: {MODELS_NAMED + 3} summaries"
    assert message.body.split("\n\n") == [*texts[:MODELS_NAMED], "… and 3 more"]


@pytest.mark.parametrize("symbol", ["<!channel>", "*bold*", "{x} %s", "日経 \N{ROCKET}", "[a](b)"])
def test_message_shows_a_symbol_as_it_is(symbol: str) -> None:
    """The text is plain: nothing is escaped here, and nothing is a format."""
    news = news_of(flat_summary({symbol: GOOD}))
    assert f"- {symbol}: fitness" in run_message(news, ALL).body
    assert f"- {symbol} (20241224_153000)" in many_runs_message([news, news], ALL).body


@pure
@given(st.integers(0, 10_000), st.integers(1, 60), st.sets(st.sampled_from(ALL)))
def test_run_message_of_any_run_names_every_model_asked_for_or_counts_it(
    seed: int, models: int, asked: set[str]
) -> None:
    """Nobody is left out without being counted, nobody is named twice, and the message stays short."""
    news = news_of(random_summary(seed, models=models, points=4))
    body = run_message(news, asked).body
    for classification, count in news.counts.items():
        assert (f"{classification} ({count})" in body) is (classification in asked and count > 0)
    named = [line.split(":")[0].removeprefix("- ") for line in body.splitlines() if line.startswith("- ")]
    assert len(named) == len(set(named))
    assert len(named) == sum(min(news.counts[each], MODELS_NAMED) for each in news.counts if each in asked)
    assert len(body) < 10_000
