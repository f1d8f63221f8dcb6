"""Whatever the bytes are, the outcome is a summary or a refusal that names the place; never another error."""

import json
import math
import pickle
import unicodedata
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from modelwarden.errors import RejectSummary
from modelwarden.gate.assessment import NOT_KEPT
from modelwarden.gate.json_object import PROBLEMS_NAMED, NotJson
from modelwarden.gate.model_entry import Model
from modelwarden.gate.summary import PROBLEMS_COUNTED, Summary, parse_summary
from modelwarden.gate.values import _INVISIBLE
from summaries import GOOD, encoded, flat_summary, series_summary

pure = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

BOM = b"\xef\xbb\xbf"
HISTORY = [0.7, 0.75, 0.78]
MODEL = {"symbol": "AAPL", **GOOD}
AS_READ = Model("AAPL", tuple(GOOD.values()), (), None, None)
SERIES = {
    "fitness_score": [0.5, 0.8, 0.75],
    "profit_factor": [1.1, 1.5, 1.9],
    "consistency": [0.6, 0.7, 0.88],
    "max_drawdown": [0.2, 0.1, 0.06],
}
CONTAINERS = ("models", "results", "symbols")

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.just(10**400) | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
known_names = st.sampled_from(
    [
        *CONTAINERS,
        *MODEL,
        *SERIES,
        "metrics",
        "validation_metrics",
        "fitness_history",
        "checkpoints",
        "validation_interval",
        "timestamp",
        "run_name",
        "reward_scale",
    ]
)
near_summaries = st.recursive(
    json_values,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(known_names, inner, max_size=6),
    max_leaves=20,
)


def parse(summary: object) -> Summary:
    """The summary as a trainer's JSON library would have written it."""
    return parse_summary(json.dumps(summary).encode())


def refusal_of(data: bytes) -> RejectSummary:
    """Why these bytes are refused."""
    with pytest.raises(RejectSummary) as refused:
        parse_summary(data)
    return refused.value


def refusal(summary: object) -> RejectSummary:
    """Why this JSON is no summary; it is complete, so it must not be taken for one still being written."""
    refused = refusal_of(json.dumps(summary).encode())
    assert not isinstance(refused, NotJson)
    return refused


@pytest.mark.parametrize("container", CONTAINERS)
def test_flat_layout_as_a_list_is_read(container: str) -> None:
    """A list of models under any of the three names."""
    assert parse({container: [MODEL]}) == Summary((AS_READ,), None, None, None)


@pytest.mark.parametrize("container", CONTAINERS)
def test_flat_layout_keyed_by_symbol_is_read(container: str) -> None:
    """An object keyed by symbol under any of the three names; a symbol inside may repeat its key."""
    assert parse({container: {"AAPL": GOOD}}).models == (AS_READ,)
    assert parse({container: {"AAPL": MODEL}}).models == (AS_READ,)


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("name", ["metrics", "validation_metrics"])
def test_series_layout_is_read_by_its_last_points(container: str, name: str) -> None:
    """Each metric is a list over validation points: the last is final, fitness_score is the history."""
    expected = Model("AAPL", (0.75, 1.9, 0.88, 0.06), SERIES["fitness_score"], None, None, SERIES, is_flat=False)
    assert parse({container: {"AAPL": {name: SERIES}}}).models == (expected,)
    assert parse({container: [{"symbol": "AAPL", name: SERIES}]}).models == (expected,)


def test_series_layout_with_both_names_is_judged_on_validation() -> None:
    """A model is not judged on what it trained on; where there is no validation, metrics count."""
    training = {name: [0.0] for name in SERIES}
    both = parse({"results": {"AAPL": {"metrics": training, "validation_metrics": SERIES}}})
    assert both.models[0].values == (0.75, 1.9, 0.88, 0.06)
    none = parse({"results": {"AAPL": {"metrics": SERIES, "validation_metrics": None}}})
    assert none.models[0].values == (0.75, 1.9, 0.88, 0.06)


def test_series_layout_of_uneven_or_empty_lists_takes_each_last_point() -> None:
    """A metric without points is missing, not zero."""
    lists = {"fitness_score": [0.5, 0.9], "profit_factor": [], "consistency": None}
    assert parse({"results": {"AAPL": {"metrics": lists}}}).models[0].values == (0.9, None, None, None)


def test_series_layout_last_point_null_is_missing_and_not_the_point_before() -> None:
    """The last value is final, also where it is null: an earlier one would be a guess."""
    lists = {**SERIES, "fitness_score": [0.9, None]}
    (model,) = parse({"results": {"AAPL": {"metrics": lists}}}).models
    assert model.values[0] is None
    assert model.history[0] == 0.9
    assert math.isnan(model.history[1])


def test_flat_figures_beside_series_count() -> None:
    """A model that names its final figures is judged by them; the list of its fitness is its history."""
    (model,) = parse({"models": [{**MODEL, "metrics": SERIES}]}).models
    assert (model.values, model.history, model.lists) == (AS_READ.values, SERIES["fitness_score"], SERIES)
    (model,) = parse({"models": [{**MODEL, "fitness_history": HISTORY, "metrics": SERIES}]}).models
    assert model.history == HISTORY


@pytest.mark.parametrize(
    "beside", [5, "x", [1], {}, {"fitness_score": "x"}, {"fitness_score": [0.1, "x"]}, {"loss": [1]}]
)
def test_flat_figures_beside_what_is_no_lists_are_read_alone(beside: Any) -> None:
    """A field that nobody knows is ignored, also one that has the name of the lists."""
    (model,) = parse({"models": [{**MODEL, "metrics": beside}]}).models
    assert (model.values, model.history, model.contradictions) == (AS_READ.values, (), ())


def test_both_layouts_in_one_summary_are_read() -> None:
    """Every model says for itself how it is laid out; the order of the file stays."""
    models = parse({"models": [{"symbol": "B", "metrics": SERIES}, {"symbol": "A", **GOOD}]}).models
    assert [(model.symbol, model.values[0]) for model in models] == [("B", 0.75), ("A", 0.91)]


def test_summary_from_the_shared_parts_is_read_in_both_layouts() -> None:
    """A realistic summary in either layout has all its models, in order."""
    assert [model.symbol for model in parse(flat_summary()).models] == ["GOOD", "MIDDLING", "BAD"]
    points = {"X": [(0.5, 1.0, 0.6, 0.2), (0.9, 2.0, 0.9, 0.05)], "Y": [(0.1, 0.2, 0.3, 0.4)]}
    models = parse(series_summary(points)).models
    assert [(model.symbol, model.values) for model in models] == [(name, rows[-1]) for name, rows in points.items()]


def test_symbols_listed_as_text_beside_the_models_do_not_hide_them() -> None:
    """A trainer may list its symbols; only objects are models."""
    assert parse({"symbols": ["AAPL"], "models": [MODEL]}).models == (AS_READ,)
    assert parse({"symbols": ["AAPL"], "results": {"AAPL": GOOD}}).models == (AS_READ,)


def test_models_in_two_containers_are_refused_by_both_names() -> None:
    """Which of the two counts can't be known."""
    reason = str(refusal({"models": [MODEL], "results": {"AAPL": GOOD}}))
    assert "models" in reason
    assert "results" in reason


@pytest.mark.parametrize("extra", [{}, {"notes": {"a": [1, {"b": None}]}, "version": 7, "lr": 1e-4}])
def test_unknown_fields_are_ignored(extra: dict[str, Any]) -> None:
    """Trainers write more than is asked for, in every place."""
    assert parse({"models": [MODEL | extra], **extra}).models == (AS_READ,)


def test_run_fields_are_read() -> None:
    """Timestamp, name and reward scale belong to the run."""
    summary = parse(flat_summary(timestamp="2024-12-24T15:30:00+01:00", run_name="nightly", reward_scale=0.01))
    assert (summary.timestamp, summary.run_name, summary.reward_scale) == ("20241224_143000", "nightly", 0.01)


@pytest.mark.parametrize("name", ["timestamp", "run_name", "reward_scale", "validation_interval"])
def test_run_field_null_is_as_good_as_missing(name: str) -> None:
    """All four are optional, and null is how JSON says nothing."""
    assert parse({"models": [MODEL], name: None}) == parse({"models": [MODEL]})


@pytest.mark.parametrize("timestamp", ["../../etc/x", "", "yesterday", "2024-13-01", "20241224-153000x"])
def test_timestamp_that_is_none_is_refused_with_what_was_expected(timestamp: str) -> None:
    """The refusal shows the forms that are read; a path is never made of it."""
    refused = refusal(flat_summary(timestamp=timestamp))
    assert refused.where == "timestamp"
    assert "ISO 8601" in str(refused)
    assert "YYYYMMDD_HHMMSS" in str(refused)


@pytest.mark.parametrize(
    ("model", "run", "expected"),
    [
        (None, None, None),
        (None, 50, 50),
        (10, 50, 10),
        (10, None, 10),
        (None, 50.0, 50),
        (1, None, 1),
        (10**9, None, 10**9),
    ],
)
def test_validation_interval_is_the_models_own_else_the_runs(
    model: float | None, run: float | None, expected: int | None
) -> None:
    """A whole number of updates, written either way."""
    summary = parse({"models": [{**MODEL, "validation_interval": model}], "validation_interval": run})
    assert summary.models[0].validation_interval == expected
    assert isinstance(summary.models[0].validation_interval, int | None)


@pytest.mark.parametrize("interval", [0, -50, 0.5, 10**9 + 1, 1e300, math.nan, math.inf, -math.inf])
def test_validation_interval_that_is_no_number_of_updates_is_refused(interval: float) -> None:
    """Nobody can load checkpoint 0, minus 50 or NaN."""
    assert refusal(flat_summary(validation_interval=interval)).where == "validation_interval"
    refused = refusal({"models": [{**MODEL, "validation_interval": interval}]})
    assert refused.where == "models[0].validation_interval"


@pytest.mark.parametrize("ids", [[50, 100, 150], ["a.pt", "b.pt", "c.pt"], [0, "mid", 2**53]])
def test_checkpoints_one_a_point_are_kept(ids: list[int | str]) -> None:
    """Numbers or names, as the trainer calls them."""
    (model,) = parse({"models": [{**MODEL, "fitness_history": HISTORY, "checkpoints": ids}]}).models
    assert model.checkpoints == ids


def test_checkpoints_beside_series_are_kept() -> None:
    """The layout of lists may name its checkpoints too."""
    (model,) = parse({"results": {"A": {"metrics": SERIES, "checkpoints": [1, 2, 3]}}}).models
    assert model.checkpoints == [1, 2, 3]


@pytest.mark.parametrize("count", [0, 2, 4])
def test_checkpoints_not_one_a_point_are_refused_with_both_counts(count: int) -> None:
    """Which id belongs to which point would be a guess."""
    refused = refusal({"models": [{**MODEL, "fitness_history": HISTORY, "checkpoints": [1] * count}]})
    assert refused.where == "models[0].checkpoints"
    assert str(count) in refused.what
    assert "3" in refused.what


def test_checkpoint_that_is_null_is_not_kept() -> None:
    """The trainer does not have it any more: nobody is told to use it."""
    model = {**MODEL, "fitness_history": HISTORY, "checkpoints": [1, None, "last"]}
    assert parse({"models": [model]}).models[0].checkpoints == [1, NOT_KEPT, "last"]


@pytest.mark.parametrize("bad", [True, -1, 2**53 + 1, 10**400, 1.5, "", "x" * 129, "a\nb", [], {}])
def test_checkpoint_that_is_no_id_is_refused_by_its_place(bad: Any) -> None:
    """An id is text without control characters or a whole number that every reader keeps."""
    refused = refusal({"models": [{**MODEL, "fitness_history": HISTORY, "checkpoints": [1, bad, 3]}]})
    assert refused.where == "models[0].checkpoints[1]"


def test_checkpoint_that_is_a_fraction_is_refused_for_being_one() -> None:
    """The reason must not contradict itself: 50.0 is a number, and not a whole one."""
    refused = refusal({"models": [{**MODEL, "fitness_history": HISTORY, "checkpoints": [1, 50.5, 3]}]})
    assert "whole number" in str(refused)


@pytest.mark.parametrize(
    ("token", "check"),
    [
        ("NaN", math.isnan),
        ("Infinity", lambda value: value == math.inf),
        ("-Infinity", lambda value: value == -math.inf),
        ("1e999", lambda value: value == math.inf),
        ("-1e999", lambda value: value == -math.inf),
        ("2", lambda value: value == 2.0),
        ("-0", lambda value: value == 0.0),
        ("5e-1", lambda value: value == 0.5),
        ("9007199254740993", lambda value: value == float(9007199254740993)),
    ],
)
def test_number_tokens_that_trainers_write_are_read(token: str, check: Any) -> None:
    """Python's json writes NaN and Infinity: they are read, for the gate to judge."""
    data = f'{{"models": [{{"symbol": "A", "final_fitness": {token}, "fitness_history": [{token}, 0.5]}}]}}'
    (model,) = parse_summary(data.encode()).models
    assert isinstance(model.values[0], float)
    assert check(model.values[0])
    assert check(model.history[0])


@pytest.mark.parametrize("digits", [309, 400, 4000])
@pytest.mark.parametrize("sign", [1, -1])
def test_whole_number_beyond_floats_is_infinite(sign: int, digits: int) -> None:
    """A number of four hundred digits in a stranger's file stops nothing: it is infinite, and judged so."""
    number = sign * 10**digits
    (model,) = parse({"models": [{**MODEL, "final_pf": number, "fitness_history": [number]}]}).models
    assert model.values[1] == sign * math.inf
    assert list(model.history) == [sign * math.inf]


@pytest.mark.parametrize("number", [10**309, -(10**400)], ids=["above", "below"])
def test_validation_interval_beyond_floats_is_refused_by_its_place(number: int) -> None:
    """No run has so many updates."""
    assert refusal(flat_summary(validation_interval=number)).where == "validation_interval"


@pytest.mark.parametrize("field", GOOD)
def test_metric_missing_or_null_is_none(field: str) -> None:
    """Missing and null are one: a figure that the gate can't judge, not a fault of the file."""
    position = list(GOOD).index(field)
    without = {name: value for name, value in MODEL.items() if name != field}
    for entry in (without, {**MODEL, field: None}):
        (model,) = parse({"models": [entry]}).models
        assert model.values[position] is None
        assert [value for value in model.values if value is not None] == [
            value for name, value in GOOD.items() if name != field
        ]


def test_model_with_a_symbol_and_nothing_else_has_no_figures() -> None:
    """A model that crashed is still a model, where another has figures: it is judged, and dropped."""
    assert parse({"models": [MODEL, {"symbol": "B"}]}).models[1] == Model("B", (None,) * 4, (), None, None)


def test_history_null_point_is_nan_and_keeps_its_index() -> None:
    """A point without a figure stands where it stood."""
    (model,) = parse({"models": [{**MODEL, "fitness_history": [0.5, None, 1, 0.75]}]}).models
    assert [model.history[0], model.history[2], model.history[3]] == [0.5, 1.0, 0.75]
    assert math.isnan(model.history[1])
    assert all(type(point) is float for point in model.history)


@pure
@given(st.floats())
def test_number_of_any_size_is_read_to_the_last_bit(number: float) -> None:
    """0.70 is approved and 0.6999999999999999 is not: reading must not round."""
    value = parse({"models": [{**MODEL, "final_fitness": number}]}).models[0].values[0]
    assert value == number or (value is not None and math.isnan(value) and math.isnan(number))


@pure
@given(st.from_regex(r"-?(0|[1-9][0-9]{0,30})(\.[0-9]{1,40})?([eE][+-]?[0-9]{1,3})?", fullmatch=True))
def test_number_in_any_notation_is_read_as_python_reads_it(token: str) -> None:
    """However many digits a trainer writes, the nearest float is what is judged."""
    data = f'{{"models": [{{"symbol": "A", "final_fitness": {token}}}]}}'.encode()
    assert parse_summary(data).models[0].values[0] == float(token)


NULL, TRUE, WHOLE, FRACTION, TEXT, LIST, OBJECT = None, True, 5, 0.5, "x", ["y"], {"k": "v"}
KINDS = (NULL, TRUE, WHOLE, FRACTION, TEXT, LIST, OBJECT)
NUMBER = (NULL, WHOLE, FRACTION)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: type(kind).__name__)
@pytest.mark.parametrize(
    ("template", "place", "accepted"),
    [
        ({"models": [MODEL], "timestamp": ...}, "timestamp", (NULL,)),
        ({"models": [MODEL], "run_name": ...}, "run_name", (NULL, TEXT)),
        ({"models": [MODEL], "validation_interval": ...}, "validation_interval", (NULL, WHOLE)),
        ({"models": [MODEL], "reward_scale": ...}, "reward_scale", NUMBER),
        ({"models": [...]}, "models[0]", ()),
        ({"models": [MODEL, ...]}, "models[1]", ()),
        ({"results": {"A": GOOD, "A B": ...}}, 'results["A B"]', (OBJECT,)),
        ({"results": {"A": GOOD, "AAPL": ...}}, "results.AAPL", (OBJECT,)),
        ({"models": [{**GOOD, "symbol": ...}]}, "models[0].symbol", (TEXT,)),
        *(({"models": [{**MODEL, name: ...}]}, f"models[0].{name}", NUMBER) for name in GOOD),
        ({"models": [{**MODEL, "fitness_history": ...}]}, "models[0].fitness_history", (NULL,)),
        ({"models": [{**MODEL, "fitness_history": [0.5, ...]}]}, "models[0].fitness_history[1]", NUMBER),
        ({"models": [{**MODEL, "checkpoints": ...}]}, "models[0].checkpoints", (NULL,)),
        ({"models": [{**MODEL, "validation_interval": ...}]}, "models[0].validation_interval", (NULL, WHOLE)),
        ({"symbols": {"A": GOOD, "B": {"metrics": ...}}}, "symbols.B.metrics", (NULL, OBJECT)),
        ({"symbols": {"A": GOOD, "B": {"validation_metrics": ...}}}, "symbols.B.validation_metrics", (NULL, OBJECT)),
        *(({"symbols": {"A": {"metrics": {name: ...}}}}, f"symbols.A.metrics.{name}", NUMBER) for name in SERIES),
        *(
            ({"symbols": {"A": {"metrics": {name: [0.5, ...]}}}}, f"symbols.A.metrics.{name}[1]", NUMBER)
            for name in SERIES
        ),
    ],
    ids=lambda part: part if isinstance(part, str) else "",
)
def test_field_of_any_type_is_read_or_refused_by_its_place(
    template: object, place: str, accepted: tuple[object, ...], kind: object
) -> None:
    """Every JSON type in every field: taken where it makes sense, else the reason begins with the place."""
    summary = _filled(template, kind)
    if any(type(kind) is type(each) for each in accepted):
        assert isinstance(parse(summary), Summary)
        return
    refused = refusal(summary)
    assert refused.where.startswith(place)
    assert str(refused).startswith(f"{refused.where}: ")


def _filled(template: object, value: object) -> object:
    """The template with the value at its `...`."""
    match template:
        case dict():
            return {name: _filled(inner, value) for name, inner in template.items()}
        case list():
            return [_filled(inner, value) for inner in template]
        case _:
            return value if template is ... else template


@pytest.mark.parametrize("top", ["[]", '[{"symbol": "A"}]', '"x"', "5", "null", "true", "NaN"])
def test_top_level_that_is_no_object_is_refused_with_what_to_write(top: str) -> None:
    """The reason shows the shape that is expected."""
    reason = str(refusal_of(top.encode()))
    assert "not an object" in reason
    assert '{"models": [...]}' in reason


@pytest.mark.parametrize(
    "summary",
    [
        {},
        {"timestamp": "20241224_153000"},
        *({name: []} for name in CONTAINERS),
        *({name: {}} for name in CONTAINERS),
        *({"models": value} for value in (None, True, 5, "AAPL")),
    ],
)
def test_summary_without_models_is_refused(summary: Mapping[str, Any]) -> None:
    """An empty run is no run: somebody is to look at it."""
    assert "no models" in str(refusal(summary))


@pytest.mark.parametrize(
    "data",
    [
        encoded({"models": [MODEL, MODEL]}),
        encoded({"models": [MODEL, {"symbol": "MSFT"}, {"symbol": "AAPL", "metrics": SERIES}]}),
        b'{"results": {"AAPL": {}, "MSFT": {}, "AAPL": {}}}',
        b'{"run_name": "x", "symbols": {"AAPL": {"metrics": {}}, "AAPL": {"final_pf": 2}}}',
        b'{"symbols": {"AAPL": {}, "\\u0041APL": {}}}',
    ],
)
def test_symbol_twice_is_refused_with_a_way_out(data: bytes) -> None:
    """In either layout, and also where an escape hides that the keys are one."""
    assert str(refusal_of(data)) == "two models are called AAPL: give each its own symbol, such as AAPL_1Hour"


@pytest.mark.parametrize(
    ("data", "place", "key"),
    [
        (b'{"models": [], "models": []}', "", "models"),
        (b'{"models": [{"symbol": "A", "final_pf": 1, "final_pf": 2}]}', "models[0]", "final_pf"),
        (b'{"models": [{"symbol": "A"}, {"symbol": "B", "symbol": "C"}]}', "models[1]", "symbol"),
        (b'{"results": {"A B": {"metrics": {"x": 1, "x": 1}}}}', 'results["A B"].metrics', "x"),
        (b'{"notes": [[{"a": 1, "a": 1}]], "models": [{"symbol": "A"}]}', "notes[0][0]", "a"),
        (BOM + b'{"models": [{"symbol": "A", "symbol": "A"}]}', "models[0]", "symbol"),
    ],
)
def test_key_twice_is_refused_by_its_place(data: bytes, place: str, key: str) -> None:
    """A reader can't know which of the two counts, in whatever object it is."""
    refused = refusal_of(data)
    assert refused.where == place
    assert f'"{key}" stands twice' in refused.what
    assert not isinstance(refused, NotJson)


def test_key_twice_that_is_empty_is_refused_by_its_place() -> None:
    """An empty key is a key."""
    refused = refusal_of(b'{"models": [{"symbol": "A"}, {"symbol": "B", "": 1, "": 2}]}')
    assert refused.where == "models[1]"


@pytest.mark.parametrize(
    "data",
    [
        b'{"a": 1, "a": ',
        b'{"a": 1, "a": 2} trailing',
        b'{"a": 1, "a": ' + b"[" * 100_000,
        b'{"a": 1, "a": "\xff"}',
        b'{"a": 1, "a": ' + b"9" * 5_000 + b"}",
    ],
)
def test_key_twice_in_bytes_that_are_no_json_is_not_json(data: bytes) -> None:
    """The rest may still be on its way: an unfinished file is not refused for good."""
    assert isinstance(refusal_of(data), NotJson)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"notes", "not JSON: expected null, true, false, NaN or Infinity at line 1 column 2"),
        (b'{"models": [', "not JSON: the file ends inside a list at line 1 column 12"),
        (b'{"models": {}', "not JSON: the file ends inside an object at line 1 column 13"),
    ],
)
def test_bytes_that_are_no_json_are_told_without_words_of_the_parser(data: bytes, said: str) -> None:
    """Whoever wrote the file need not know what an ident or an EOF is."""
    assert refusal_of(data).what == said


@pytest.mark.parametrize("symbol", ["A", "x" * 128, "\N{GRINNING FACE}" * 128])
def test_symbol_of_1_to_128_characters_is_kept(symbol: str) -> None:
    """Characters are counted, not bytes."""
    assert parse({"models": [{**MODEL, "symbol": symbol}]}).models[0].symbol == symbol
    assert parse({"results": {symbol: GOOD}}).models[0].symbol == symbol


@pytest.mark.parametrize("symbol", ["", "x" * 129, "x" * 1_000_000])
def test_symbol_of_another_length_is_refused_and_not_repeated_at_length(symbol: str) -> None:
    """The reason goes into logs and messages: it stays short whatever it is about."""
    for summary in ({"models": [{**MODEL, "symbol": symbol}]}, {"results": {symbol: GOOD}}):
        refused = refusal(summary)
        assert refused.where.endswith(".symbol")
        assert len(str(refused)) < 300


@pytest.mark.parametrize(
    "symbol",
    [
        "BRK.B",
        "../../etc/passwd",
        "`code` | [a](b) <b>",
        "日経225",
        "ÅÄÖ",
        "שקל",
        " spaced ",
        "%s {x}",
        "\N{FAMILY}",
        "\N{WOMAN}\N{ROCKET}",
        "e\N{COMBINING ACUTE ACCENT}",
        "\N{NO-BREAK SPACE}",
    ],
)
def test_symbol_of_any_script_or_markup_is_data(symbol: str) -> None:
    """A symbol is any text: it is never a path and never markup, so none of these needs refusing."""
    assert parse({"models": [{**MODEL, "symbol": symbol}]}).models[0].symbol == symbol


CONTROLS = [
    *(chr(code) for code in (*range(0x20), *range(0x7F, 0xA0))),
    "\N{LINE SEPARATOR}",
    "\N{PARAGRAPH SEPARATOR}",
    *(chr(code) for code in (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))),
]


@pytest.mark.parametrize("character", CONTROLS, ids=lambda character: f"U+{ord(character):04X}")
def test_control_character_is_refused_by_its_code_and_not_repeated(character: str) -> None:
    """Line breaks forge lines and direction marks turn names around: no text that is shown may hold one."""
    text = f"AA{character}PL"
    for summary, place in (
        ({"models": [{**MODEL, "symbol": text}]}, "models[0].symbol"),
        ({"results": {text: GOOD}}, "results["),
        ({"models": [MODEL], "run_name": text}, "run_name"),
        ({"models": [{**MODEL, "fitness_history": [1], "checkpoints": [text]}]}, "models[0].checkpoints[0]"),
    ):
        refused = refusal(summary)
        assert refused.where.startswith(place)
        assert f"U+{ord(character):04X}" in refused.what
        assert character not in str(refused)


INVISIBLE = {
    "\N{ZERO WIDTH SPACE}": "ZERO WIDTH SPACE",
    "\N{ZERO WIDTH NON-JOINER}": "ZERO WIDTH NON-JOINER",
    "\N{ZERO WIDTH JOINER}": "ZERO WIDTH JOINER",
    "\N{WORD JOINER}": "WORD JOINER",
    "\N{INVISIBLE TIMES}": "INVISIBLE TIMES",
    "\N{SOFT HYPHEN}": "SOFT HYPHEN",
    "\N{COMBINING GRAPHEME JOINER}": "COMBINING GRAPHEME JOINER",
    "\N{HANGUL FILLER}": "HANGUL FILLER",
    "\N{HALFWIDTH HANGUL FILLER}": "HALFWIDTH HANGUL FILLER",
    "\N{MONGOLIAN VOWEL SEPARATOR}": "MONGOLIAN VOWEL SEPARATOR",
    "\N{KHMER VOWEL INHERENT AQ}": "KHMER VOWEL INHERENT AQ",
    "\N{VARIATION SELECTOR-1}": "VARIATION SELECTOR-1",
    "\N{VARIATION SELECTOR-16}": "VARIATION SELECTOR-16",
    "\N{VARIATION SELECTOR-256}": "VARIATION SELECTOR-256",
    "\N{TAG LATIN SMALL LETTER A}": "TAG LATIN SMALL LETTER A",
    "\N{CANCEL TAG}": "CANCEL TAG",
    "\N{LANGUAGE TAG}": "LANGUAGE TAG",
    "\N{ZERO WIDTH NO-BREAK SPACE}": "ZERO WIDTH NO-BREAK SPACE",
    "\N{INTERLINEAR ANNOTATION ANCHOR}": "INTERLINEAR ANNOTATION ANCHOR",
    "\N{BRAILLE PATTERN BLANK}": "BRAILLE PATTERN BLANK",
    "\U000e0fff": "character",
}


@pytest.mark.parametrize("character", INVISIBLE, ids=lambda character: f"U+{ord(character):04X}")
def test_invisible_character_in_a_name_is_refused_by_its_name(character: str) -> None:
    """Two names that differ by what nobody sees are one name to everybody: neither comes in."""
    text = f"AA{character}PL"
    for summary, place in (
        ({"models": [{**MODEL, "symbol": text}]}, "models[0].symbol"),
        ({"results": {text: GOOD}}, "results["),
        ({"models": [{**MODEL, "fitness_history": [1], "checkpoints": [text]}]}, "models[0].checkpoints[0]"),
    ):
        refused = refusal(summary)
        assert refused.where.startswith(place)
        assert f"invisible {INVISIBLE[character]} (U+{ord(character):04X})" in refused.what
        assert character not in str(refused)


def test_invisible_character_in_a_run_name_is_kept() -> None:
    """A run is told from another by its timestamp; its name is for people, and may hold any sign they use."""
    assert parse(flat_summary(run_name="best \N{HEAVY BLACK HEART}\ufe0f")).run_name is not None


TWINS = {
    "a letter and its accent": ("\u00e9", "e\u0301"),
    "the sign of a unit and the letter": ("\u212b", "\u00c5"),
    "marks in another order": ("a\u0323\u0301", "a\u0301\u0323"),
    "a syllable and its parts": ("\ud55c", "\u1112\u1161\u11ab"),
}


@pytest.mark.parametrize(("one", "other"), TWINS.values(), ids=TWINS)
def test_symbols_that_are_one_text_in_unicode_are_refused_with_both(one: str, other: str) -> None:
    """Nobody could tell which of the two a report means; escapes tell them apart in the reason."""
    for document in (flat_summary({one: GOOD, "X": GOOD, other: GOOD}), {"results": {one: GOOD, other: GOOD}}):
        refused = refusal(document)
        assert json.dumps(one) in refused.what
        assert json.dumps(other) in refused.what
        assert "NFC" in refused.hint


def test_symbol_that_is_not_in_composed_form_is_kept_as_written() -> None:
    """Alone in its summary there is nothing to mix it up with: the archive calls it what the trainer calls it."""
    assert parse(flat_summary({"e\u0301": GOOD})).models[0].symbol == "e\u0301"


def test_symbols_in_upper_and_lower_case_are_two() -> None:
    """Everybody sees the difference."""
    assert [each.symbol for each in parse(flat_summary({"BTC": GOOD, "btc": GOOD})).models] == ["BTC", "btc"]


def test_run_name_of_256_characters_is_kept_and_longer_ones_are_refused() -> None:
    """A name is for people."""
    assert parse(flat_summary(run_name="x" * 256)).run_name == "x" * 256
    for name in ("", "x" * 257):
        assert refusal(flat_summary(run_name=name)).where == "run_name"


def test_symbol_other_than_its_key_is_refused_with_both() -> None:
    """One of the two is wrong, and it can't be known which."""
    refused = refusal({"results": {"AAPL": {**GOOD, "symbol": "MSFT"}}})
    assert refused.where == "results.AAPL.symbol"
    assert "AAPL" in refused.what
    assert "MSFT" in refused.what


def test_symbol_missing_in_a_list_is_refused_by_its_place() -> None:
    """A model without a name could never be asked for."""
    assert refusal({"models": [MODEL, GOOD]}).where == "models[1].symbol"


@pytest.mark.parametrize("data", [BOM + encoded(flat_summary()), b" \r\n\t" + encoded(flat_summary()) + b"\r\n"])
def test_bytes_with_bom_or_space_around_are_read(data: bytes) -> None:
    """Windows writes a BOM, people end files with a newline."""
    assert parse_summary(data) == parse(flat_summary())


def test_bytes_in_utf_8_without_escapes_are_read() -> None:
    """Both ways of writing a letter are the same letter."""
    data = json.dumps({"models": [{**MODEL, "symbol": "日経"}]}, ensure_ascii=False).encode()
    assert parse_summary(data).models[0].symbol == "日経"


TEXT_OF_SUMMARY = json.dumps({"models": [{**MODEL, "symbol": "日経"}]}, ensure_ascii=False)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"])
def test_bytes_in_another_encoding_are_refused_with_the_one_to_write(encoding: str) -> None:
    """PowerShell's `>` writes UTF-16: the reason says what to do."""
    reason = refusal_of(TEXT_OF_SUMMARY.encode(encoding))
    assert isinstance(reason, NotJson)
    assert "UTF-8" in str(reason)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        BOM,
        b" ",
        b"\0",
        b"\0" * 4096,
        b"{",
        b"}",
        b"{}{}",
        b"{'models': []}",
        b'{"models": [],}',
        b'{"models": [] // x\n}',
        b'{"models": [+1]}',
        b'{"models": [01]}',
        b'{"a": "\x01"}',
        b'{"a": "\xff"}',
        b'{"a": "\xed\xa0\x80"}',
        b'{"a": "\\ud800"}',
        b'{"a": "\\udc00\\ud800"}',
        b'{"a": "\\x"}',
        b'{"a": nan}',
        BOM + BOM + b"{}",
        b"\x1f\x8b\x08\x00",
        TEXT_OF_SUMMARY.encode("shift_jis"),
        b'{"models": ' + b"[" * 100_000,
        b'{"models": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"a":' * 100_000,
        b'{"a":' * 1_000 + b"1" + b"}" * 1_000,
        b'{"a": ' + b"9" * 100_000 + b"}",
    ],
    ids=lambda data: repr(data[:20]),
)
def test_bytes_that_are_no_json_are_not_json_with_a_short_reason(data: bytes) -> None:
    """Garbage, foreign encodings, lone surrogates, depth and size without end: a reason, and bounded at that."""
    refused = refusal_of(data)
    assert isinstance(refused, NotJson)
    assert 0 < len(str(refused)) < 300


@pytest.mark.parametrize(
    "data",
    [
        encoded(flat_summary(run_name="nightly", validation_interval=50)),
        encoded(series_summary({"A": [(0.5, 1.0, 0.6, 0.2), (0.9, 2.0, 0.9, 0.05)]})),
        BOM + TEXT_OF_SUMMARY.encode(),
        b'{"models": {"AAPL": {"final_pf": NaN}, "AAPL": {"final_pf": -Infinity}}}',
        json.dumps(flat_summary(), indent=2).encode(),
    ],
)
def test_bytes_cut_anywhere_are_not_json(data: bytes) -> None:
    """A truncated object never parses: whatever stage of writing is seen, it is never taken for the whole."""
    for cut in range(len(data)):
        assert isinstance(refusal_of(data[:cut]), NotJson)


def test_refusal_names_all_that_is_wrong_in_the_files_order() -> None:
    """Whoever mends a trainer mends it in one go."""
    models: list[Any] = [
        {**MODEL, "final_pf": "x", "final_max_dd": True, "fitness_history": [0.5, "a", None, []]},
        {**GOOD, "validation_interval": 0},
        7,
        {**MODEL, "symbol": "B", "checkpoints": [1, 2], "fitness_history": "none"},
        {"symbol": "C\u0007", "metrics": {**SERIES, "fitness_score": [0.5, "x"], "consistency": "x"}},
        {**MODEL},
    ]
    error = refusal({"timestamp": "never", "reward_scale": "?", "run_name": [], "models": models})
    assert [problem.where for problem in error.problems] == [
        "timestamp",
        "models[0].fitness_history[1]",
        "models[0].fitness_history[3]",
        "models[0].final_pf",
        "models[0].final_max_dd",
        "models[1].symbol",
        "models[1].validation_interval",
        "models[2]",
        "models[3].fitness_history",
        "models[4].symbol",
        "models[4].metrics.fitness_score[1]",
        "models[4].metrics.consistency",
        "",
        "run_name",
        "reward_scale",
    ]
    assert error.problems[12].what == "two models are called AAPL"
    assert (error.where, error.what, error.hint) == (error.problems[0].where, *error.problems[0][::2])
    assert str(error) == "\n".join(map(str, error.problems))


def test_keys_that_stand_twice_are_all_named() -> None:
    """Two symbols, and a key in a model: each by its place, and in the words of what it is."""
    data = b'{"models": {"A": {"final_pf": 1, "final_pf": 2}, "B": {}, "A": {"x": 1, "x": 2}, "B": {}}, "t": 1, "t": 2}'
    error = refusal_of(data)
    assert [(problem.where, problem.what) for problem in error.problems] == [
        ("", 'the key "t" stands twice in one object'),
        ("", "two models are called A"),
        ("", "two models are called B"),
        ("models.A", 'the key "x" stands twice in one object'),
    ]
    assert pickle.loads(pickle.dumps(error)).problems == error.problems
    many = refusal_of(b'{"x": [' + b'{"a": 1, "a": 2}, ' * 99 + b'{"a": 1, "a": 2}]}')
    assert (len(many.problems), many.more, many.where) == (20, 80, "x[0]")


def test_refusal_of_very_many_problems_names_the_first_ones() -> None:
    """20,000 wrong models are said in a few lines: the first, and how many more."""
    error = refusal({"models": [{"symbol": f"S{index}", "final_pf": "x"} for index in range(20_000)]})
    assert len(error.problems) == PROBLEMS_NAMED == 20
    assert error.more == 19_980
    assert str(error).splitlines()[-1] == "and 19980 more"


def test_refusal_of_nothing_but_problems_is_bounded() -> None:
    """A file that is made of wrong points is not counted to its end."""
    points = json.dumps(["x"] * (PROBLEMS_COUNTED + 1_000))
    with pytest.raises(RejectSummary) as refused:
        parse_summary(b'{"models": [{"symbol": "A", "fitness_history": ' + points.encode() + b"}]}")
    assert str(refused.value).splitlines()[-1] == "and more than 100000 more"


def test_refusal_survives_being_pickled_whole() -> None:
    """A worker process refuses a summary; the daemon tells of it."""
    error = refusal({"models": [{"symbol": f"S{index}", "final_pf": "x"} for index in range(50)]})
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.problems, again.more) == (str(error), error.problems, 30)


@pure
@given(near_summaries)
@example({"models": [{"symbol": "A", "final_pf": 10**400}]})
def test_parse_of_any_json_is_a_summary_or_a_refusal(document: object) -> None:
    """The rule is total over JSON: nothing but the two outcomes."""
    _parse_or_refuse(json.dumps(document).encode())


@pure
@given(st.binary(max_size=200))
def test_parse_of_any_bytes_is_a_summary_or_a_refusal(data: bytes) -> None:
    """The rule is total over bytes."""
    _parse_or_refuse(data)
    _parse_or_refuse(b'{"models": [' + data + b"]}")
    _parse_or_refuse(b'{"models": {"' + data + b'": {}}}')


@pure
@given(st.data())
def test_parse_of_a_damaged_summary_is_a_summary_or_a_refusal(data: st.DataObject) -> None:
    """Flipped, missing and foreign bytes in the middle of a good file."""
    summary = bytearray(encoded(flat_summary(run_name="x", validation_interval=5, reward_scale=0.001)))
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(summary)))
        end = start + data.draw(st.integers(0, 6))
        summary[start:end] = data.draw(
            st.one_of(st.binary(max_size=6), st.sampled_from([b'"', b"{", b"]", b"null", b","]))
        )
    _parse_or_refuse(bytes(summary))


@pure
@given(st.text(max_size=130))
def test_parse_of_any_symbol_keeps_it_or_refuses_it(symbol: str) -> None:
    """Kept to the letter, or refused for its length or what nobody can see; in both layouts alike."""
    controls = {character for character in symbol if unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"}}
    invisible = _INVISIBLE.search(symbol)
    fine = 1 <= len(symbol) <= 128 and not controls and not set(symbol) & set(CONTROLS) and not invisible
    for summary in ({"models": [{**MODEL, "symbol": symbol}]}, {"results": {symbol: GOOD}}):
        if fine:
            assert parse(summary).models[0].symbol == symbol
        else:
            with pytest.raises(RejectSummary):
                parse(summary)


def _parse_or_refuse(data: bytes) -> None:
    """Either a summary that keeps its promises, or a reason that is printable, short and one line."""
    try:
        summary = parse_summary(data)
    except RejectSummary as refused:
        reason, problems = str(refused), refused.problems
        assert reason
        assert reason.split("\n")[: len(problems)] == [*map(str, problems)]
        assert len(problems) <= PROBLEMS_NAMED
        assert all(len(line) < 1_000 and not set(line) & set(CONTROLS) for line in reason.split("\n"))
        reason.encode()
        return
    assert summary.models
    assert len({model.symbol for model in summary.models}) == len(summary.models)
    for model in summary.models:
        assert all(value is None or type(value) is float for value in model.values)
        assert all(type(point) is float for point in model.history)
        assert model.checkpoints is None or len(model.checkpoints) == len(model.history)
