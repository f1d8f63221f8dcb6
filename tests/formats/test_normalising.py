"""What a program put out becomes a summary: names cleaned, figures kept, checkpoints sought."""

import json
import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from modelwarden.errors import RejectSummary
from modelwarden.formats.description import Format, MetricRule
from modelwarden.formats.normalising import DIVERGED, NotFinal, Part, Wish, summary_of
from modelwarden.gate.gates import Better, Gate, Missing
from modelwarden.gate.policy import Policy
from modelwarden.gate.summary import parse_summary

PLAIN = Format("plain", "Plain", ("*",), "json", ".")
SOUND = replace(PLAIN, metrics=(MetricRule("*loss", Better.LOWER, sound=True), MetricRule("acc", least=0.0, most=1.0)))
NOTHING = Wish()
ANY = Policy((Gate("x", 0.0, 0.0, missing=Missing.IGNORE),), name="any")


def made(
    models: Any, format_: Format = PLAIN, wish: Wish = NOTHING, kept: frozenset[str] | None = None, **fields: Any
) -> Any:
    """The summary of a program's only output."""
    written = summary_of([Part("", [{"models": models, **fields}], kept)], format_, wish)
    return written if isinstance(written, NotFinal) else json.loads(written)


def model(format_: Format = PLAIN, wish: Wish = NOTHING, kept: frozenset[str] | None = None, **fields: Any) -> Any:
    """The only model of one."""
    return made([{"symbol": "A", "metrics": {}, **fields}], format_, wish, kept)["models"][0]


def test_figure_measured_once_stands_beside_the_courses() -> None:
    """As a number, so that lists of one length are held against one another."""
    metrics = model(metrics={"a": [1, 2], "b": [3], "c": 4})["metrics"]
    assert metrics == {"a": [1.0, 2.0], "b": 3.0, "c": 4.0}


def test_points_that_are_no_numbers_are_missing() -> None:
    """Never guessed: text, truth values, lists."""
    assert model(metrics={"a": ["1", True, [2], None, 3]})["metrics"]["a"] == [None] * 4 + [3.0]


def test_diverged_figures_are_counted_at_each_point() -> None:
    """NaN and both infinities; what is missing says nothing."""
    metrics = {"loss": [1.0, "NaN", None, "Infinity"], "val_loss": [1.0, 1.0, 1.0, "-Infinity"], "acc": [0.5] * 4}
    assert model(SOUND, metrics=metrics)["metrics"][DIVERGED] == [None, 1.0, None, 2.0]
    assert DIVERGED not in model(SOUND, metrics={"loss": [1.0]})["metrics"]


def test_domain_is_open_for_what_is_not_finite() -> None:
    """NaN is in no unit; the gate judges it."""
    assert math.isnan(model(SOUND, metrics={"acc": ["NaN"]})["metrics"]["acc"][0])


@pytest.mark.parametrize("figure", [1.01, -0.01, 92.0])
def test_figure_outside_its_domain_refuses_the_file(figure: float) -> None:
    """With model, metric, point and figure."""
    with pytest.raises(RejectSummary) as error:
        model(SOUND, metrics={"acc": [0.5, figure]})
    assert str(error.value).startswith(f'"A": "acc"[1]: {figure!r} is outside 0..1')


def test_noise_of_single_precision_is_no_other_unit() -> None:
    """A mean of ones may be a ten-millionth more."""
    assert model(SOUND, metrics={"acc": [1.0000001]})["metrics"]["acc"] == [1.0000001]


def test_checkpoint_that_is_not_there_has_no_name() -> None:
    """Nor has one whose number can't be told exactly, or that is no name."""
    metrics: Any = {"x": [1, 2, 3, 4]}
    ids: Any = [10, 20.0, 2**53 + 1, {}]
    assert model(metrics=metrics, checkpoints=ids)["checkpoints"] == [10, 20, None, None]
    assert model(metrics=metrics, checkpoints=ids, kept=frozenset({"20"}))["checkpoints"] == [None, 20, None, None]


def test_checkpoint_that_was_written_over_is_not_named() -> None:
    """Of two points with one name the later has what lies there: nobody is told to use it for the earlier's figures."""
    metrics: Any = {"x": [1, 5, 2, 3]}
    ids = ["a", "b", "a", "b"]
    assert model(metrics=metrics, checkpoints=ids)["checkpoints"] == [None, None, "a", "b"]
    saved = model(wish=Wish(at_saved=True), metrics=metrics, checkpoints=ids, saved="a")
    assert saved["metrics"]["x"] == [1.0, 5.0, 2.0]


def test_checkpoints_are_of_the_policys_history_or_left_out() -> None:
    """A summary lists one for each point of it, and for no other course."""
    fields: Any = {"metrics": {"x": [1, 2], "y": 3}, "checkpoints": [1, 2]}
    assert model(wish=Wish(history="x"), **fields)["checkpoints"] == [1, 2]
    for history in ("y", "z", ""):
        assert "checkpoints" not in model(wish=Wish(history=history), **fields)


def test_model_ends_at_the_checkpoint_that_was_kept() -> None:
    """What came after it is in no model that is left."""
    fields: Any = {"metrics": {"x": [1, 2, 3], "once": 9}, "checkpoints": ["a", "b", "c"], "saved": "b"}
    found = model(wish=Wish(at_saved=True), **fields)
    assert found["metrics"] == {"x": [1.0, 2.0], "once": 9.0}
    assert found["checkpoints"] == ["a", "b"]


@pytest.mark.parametrize("saved", [None, "z", 1])
def test_unknown_word_on_what_was_kept_refuses_the_file(saved: Any) -> None:
    """It is not guessed."""
    with pytest.raises(RejectSummary, match="does not say which checkpoint was kept"):
        model(wish=Wish(at_saved=True), metrics={"x": [1]}, checkpoints=["a"], saved=saved)


MODELS = [{"symbol": name, "metrics": {"x": [figure]}} for name, figure in (("A", 2), ("B", "NaN"), ("C", 1))]


@pytest.mark.parametrize(("better", "name"), [(Better.HIGHER, "A"), (Better.LOWER, "C")])
def test_best_is_the_policys_where_the_program_names_none(better: Better, name: str) -> None:
    """NaN is the best of nothing."""
    found = made(MODELS, wish=Wish(only_best=True, history="x", better=better))
    assert [each["symbol"] for each in found["models"]] == [name]


def test_last_that_the_program_calls_best_is_it() -> None:
    """Several were best so far."""
    models = [each | {"best": each["symbol"] != "C"} for each in MODELS]
    assert [each["symbol"] for each in made(models, wish=Wish(only_best=True))["models"]] == ["B"]


def test_summary_that_is_not_complete_is_none() -> None:
    """Only true is; where it is not asked it does not matter."""
    for said in (False, None, 1, "true"):
        assert isinstance(made(MODELS, wish=Wish(if_complete=True), complete=said), NotFinal)
    assert made(MODELS, wish=Wish(if_complete=True), complete=True)
    assert made(MODELS)


@given(symbol=some.text(max_size=300), run_name=some.text(max_size=600))
def test_any_name_becomes_one_that_a_summary_may_hold(symbol: str, run_name: str) -> None:
    """It comes from a folder, and a folder may be called anything."""
    program_made = {"run_name": run_name, "models": [{"symbol": symbol, "metrics": {"x": [1]}}]}
    written = summary_of([Part("", [program_made])], PLAIN, Wish())
    assert isinstance(written, bytes)
    parsed = parse_summary(written, ANY)
    if symbol.isascii() and symbol.isprintable() and 1 <= len(symbol) <= 128:
        assert parsed.models[0].symbol == symbol
