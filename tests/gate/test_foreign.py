"""What another program left is no summary: it is rejected, and said whose it looks like."""

import json
from pathlib import Path
from typing import Any

import pytest

from modelwarden.errors import RejectSummary
from modelwarden.gate.foreign import Foreign
from modelwarden.gate.summary import parse_summary
from summaries import GOOD, encoded

FILES = Path(__file__).parents[1] / "data" / "foreign"
LOOKS_LIKE = {
    "backtestingpy_stats.json": "the file looks like the statistics of backtesting.py",
    "catboost_training.json": "the file looks like a training log of CatBoost",
    "dvclive_metrics.json": 'there are "train", "val", "step", "test", "max_drawdown"',
    "hf_all_results.json": "the file looks like results of a Hugging Face trainer",
    "hf_trainer_state.json": "the file looks like the state of a Hugging Face trainer",
    "lm_eval_results.json": "the file looks like results of lm-evaluation-harness",
    "ray_tune_result.json": "a summary is one JSON object, alone in its file",
    "vectorbt_stats.json": "the file looks like the statistics of vectorbt",
    "wandb_summary.json": "the file looks like a run summary of Weights & Biases",
    "xgboost_evals.json": 'there are "train", "eval"',
}
LM_EVAL = {"results": {"arc": {"acc,none": 0.5}}}


def refusal(document: Any) -> RejectSummary:
    """Why it is no summary."""
    with pytest.raises(RejectSummary) as refused:
        parse_summary(encoded(document))
    return refused.value


@pytest.mark.parametrize("name", sorted(path.name for path in FILES.iterdir()))
def test_file_that_another_program_really_wrote_is_refused_by_what_it_is(name: str) -> None:
    """A run of somebody else's figures would empty `approved`; the reason tells its owner what came of it."""
    with pytest.raises(RejectSummary) as refused:
        parse_summary((FILES / name).read_bytes())
    assert LOOKS_LIKE[name] in str(refused.value)


def test_models_without_any_known_metric_are_refused_with_both_keys() -> None:
    """The place, the keys seen, the keys expected."""
    error = refusal(LM_EVAL)
    assert isinstance(error, Foreign)
    assert error.where == "results.arc"
    assert '"acc,none"' in error.what
    for name in (*GOOD, "metrics", "fitness_score", "profit_factor", "consistency", "max_drawdown"):
        assert name in error.hint
    assert len(error.problems) == 1


@pytest.mark.parametrize(
    "models",
    [
        [{"symbol": "A"}],
        [{"symbol": "A", "final_fitnes": 0.9}, {"symbol": "B", "acc": 1}],
        [{"name": "A", "acc": 0.9}] * 50,
        [{"symbol": "A", "metrics": {"accuracy": [0.9]}}],
        [{"symbol": "A", "metrics": {}, "validation_metrics": None}],
        [{"symbol": 7, "checkpoints": "x"}, "text", None],
    ],
)
def test_foreign_models_are_one_problem_whatever_else_they_lack(models: list[Any]) -> None:
    """Whose file it is matters more than that its models have no symbol."""
    error = refusal({"timestamp": "never", "models": models})
    assert isinstance(error, Foreign)
    assert error.where == "models[0]"
    assert (len(error.problems), error.more) == (1, 0)


@pytest.mark.parametrize(
    "known",
    [
        {"final_fitness": 0.5},
        {"final_max_dd": None},
        {"fitness_history": [0.5]},
        {"metrics": {"consistency": []}},
        {"validation_metrics": {"accuracy": [1]}, "metrics": {"fitness_score": [0.5]}},
    ],
)
def test_one_model_with_a_known_metric_makes_a_summary(known: dict[str, Any]) -> None:
    """Whatever its value: the others crashed, and are models that can't be judged."""
    summary = parse_summary(json.dumps({"models": {"A": {"acc": 0.5}, "B": known}}).encode())
    assert [model.symbol for model in summary.models] == ["A", "B"]


def test_keys_of_a_stranger_are_quoted_short_and_as_ascii() -> None:
    """Nothing in a foreign file can change a line, a terminal or the length of a message."""
    error = refusal({"results": {"a": {"\x1b[31m" + "x" * 10**6: 1, "\n": 2, "日": 3}}})
    assert len(str(error)) < 500
    assert str(error).isprintable()
    assert str(error).isascii()
