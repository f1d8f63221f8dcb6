"""model_assessments.json holds all that a rebuild needs, in strict JSON, and comes back as it went."""

import copy
import json
import math
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelwarden.archive.encoding import encode_assessments, encode_entry
from modelwarden.archive.record import decode_assessments
from modelwarden.errors import RejectSummary
from modelwarden.gate.assessment import Assessment, Band, Classification
from modelwarden.gate.gating import assess_model, judge
from modelwarden.gate.model_entry import Model
from modelwarden.gate.policy import Policy
from modelwarden.gate.run import RunRecord, Source, class_counts
from modelwarden.gate.thresholds import ModelGatingConfig
from summaries import BAD, GOOD, MIDDLING, as_schema_1, flat_summary, judged_run

pure = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

REALISTIC = flat_summary(
    {
        "GOOD": {**GOOD, "fitness_history": [0.5, 0.99, 0.91]},
        "MIDDLING": MIDDLING,
        "BAD": BAD,
        "LOSSLESS": {**GOOD, "final_pf": math.inf},
        "BROKEN": {**GOOD, "final_fitness": math.nan, "final_pf": math.inf},
    },
    run_name="nightly 日経",
    validation_interval=50,
    reward_scale=0.001,
)

words = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1, max_size=20)
figures = st.none() | st.floats() | st.floats(0, 3)
policies = st.sampled_from(
    [
        Policy.from_config(),
        Policy.from_config(ModelGatingConfig(approved_min_fitness=0.1, review_min_fitness=0.1 - 1e-17)),
        Policy.from_config(ModelGatingConfig(review_max_drawdown=1.0, fitness_decline_threshold=0.0)),
    ]
)


@st.composite
def models(draw: st.DrawFn) -> Model:
    """Any model that a summary could hold."""
    history = draw(st.lists(st.floats() | st.floats(0, 1), max_size=6))
    ids = st.lists(words | st.integers(0, 2**53), min_size=len(history), max_size=len(history))
    return Model(
        symbol=draw(words),
        values=tuple(draw(figures) for _ in Policy.from_config().gates),
        history=history,
        checkpoints=draw(st.none() | ids),
        validation_interval=draw(st.none() | st.integers(1, 1_000_000)),
    )


@st.composite
def runs(draw: st.DrawFn) -> tuple[RunRecord, list[Assessment]]:
    """Any run that could be archived: real assessments under a policy, with any texts around them."""
    policy = draw(policies)
    scale = draw(st.none() | st.just(0.001) | st.floats(allow_nan=False, allow_infinity=False))
    assessments = [assess_model(model, policy, scale) for model in draw(st.lists(models(), min_size=1, max_size=4))]
    run = RunRecord(
        timestamp="20241224_153000",
        run_name=draw(st.none() | words),
        archived_at="2024-12-24T15:30:05.000000Z",
        archived_by=draw(words),
        daemon_id="0f1e2d3c",
        source=Source(draw(st.text()), draw(st.integers(0, 2**40)), draw(st.none() | words)),
        sha256=draw(st.binary(min_size=32, max_size=32)).hex(),
        reward_scale=scale,
        policy=policy,
        **class_counts(assessments),
    )
    return run, assessments


@pure
@given(runs())
def test_run_encoded_and_decoded_is_the_same_run(archived: tuple[RunRecord, list[Assessment]]) -> None:
    """All that the index and the catalog need survives, what is no number included; histories stay in the summary."""
    run, assessments = archived
    again, decoded = decode_assessments(encode_assessments(run, assessments))
    assert again == run
    # As text: NaN is not equal to itself.
    assert repr(decoded) == repr([assessment._replace(history=()) for assessment in assessments])


@pure
@given(runs())
def test_run_decoded_is_judged_again_as_it_was(archived: tuple[RunRecord, list[Assessment]]) -> None:
    """The figures in the archive are enough to come to the same verdict, and so to any other policy's."""
    run, assessments = archived
    again, decoded = decode_assessments(encode_assessments(run, assessments))
    for before, after in zip(assessments, decoded, strict=True):
        verdict = judge(after.values, before.decline, before.largest_fall, again.reward_scale, again.policy)
        assert verdict == (before.classification, before.flags, before.bands)


@pure
@given(runs())
def test_document_of_any_run_is_strict_json(archived: tuple[RunRecord, list[Assessment]]) -> None:
    """No NaN, no Infinity, no key twice, UTF-8: any reader in any language takes it."""
    document = _strict(encode_assessments(*archived))
    assert [model["symbol"] for model in document["models"]] == [each.symbol for each in archived[1]]
    _strict(encode_entry(archived[0]))


@pure
@given(runs())
def test_document_of_any_run_has_one_line_a_model(archived: tuple[RunRecord, list[Assessment]]) -> None:
    """Grep finds a model, diff shows which one changed."""
    run, assessments = archived
    lines = encode_assessments(run, assessments).split(b"\n")
    models = lines[lines.index(b'  "models": [') + 1 :]
    assert models[len(assessments) :] == [b"  ]", b"}", b""]
    for line, assessment in zip(models, assessments, strict=False):
        assert json.loads(line.rstrip(b","))["symbol"] == assessment.symbol
    assert encode_entry(run).count(b"\n") == 0


def test_document_of_a_realistic_run_has_all_parts() -> None:
    """The fields and their names are the format: others read this file too."""
    run, assessments = judged_run(REALISTIC)
    document = _strict(encode_assessments(run, assessments))
    assert list(document) == [
        "schema_version",
        "timestamp",
        "run_name",
        "archived_at",
        "archived_by",
        "daemon_id",
        "source",
        "sha256",
        "reward_scale",
        "policy",
        "approved_count",
        "review_count",
        "dropped_count",
        "models",
    ]
    assert document["schema_version"] == 2
    assert (document["approved_count"], document["review_count"], document["dropped_count"]) == (1, 2, 2)
    assert document["policy"] == run.policy.as_json()
    assert document["source"] == {"path": run.source.path, "size": run.source.size, "mtime": run.source.mtime}
    good = document["models"][0]
    assert good["symbol"] == "GOOD"
    assert good["classification"] == "APPROVED"
    assert good["flags"] == ["FITNESS_DECLINE"]
    assert (good["use_checkpoint"], good["best_idx"], good["checkpoint_update"]) == (True, 1, 100)
    assert good["metrics"]["max_drawdown"] == {"value": 0.04, "approve": 0.08, "review": 0.15, "band": "APPROVED"}
    assert list(good["metrics"]) == list(run.policy.metrics)
    broken = document["models"][4]
    assert broken["metrics"]["fitness"]["value"] is None
    assert broken["metrics"]["fitness"]["band"] == "INVALID"
    assert "fitness is not a number (NaN)" in broken["reasons"]


def test_infinite_profit_factor_survives_the_way_to_disk_and_back() -> None:
    """Strict JSON has no infinity, and this one means something: no losing trade."""
    _, decoded = decode_assessments(encode_assessments(*judged_run(REALISTIC)))
    lossless, broken = decoded[3], decoded[4]
    assert lossless.values[1] == math.inf
    assert lossless.bands[1] is Band.REVIEW
    assert repr(broken.values[:2]) == "(nan, inf)"


@pytest.mark.parametrize("scale", [math.nan, math.inf, -math.inf])
def test_reward_scale_that_is_no_number_never_becomes_calibrated(scale: float) -> None:
    """Refused, or still uncalibrated when read back: what was REVIEW because of it is not APPROVED once archived."""
    try:
        run, assessments = judged_run(flat_summary({"GOOD": GOOD}, reward_scale=scale))
    except RejectSummary:
        return
    again, (decoded,) = decode_assessments(encode_assessments(run, assessments))
    verdict = judge(decoded.values, decoded.decline, decoded.largest_fall, again.reward_scale, again.policy)
    assert verdict.classification is Classification.REVIEW


def test_entry_of_a_run_is_its_line_in_the_index() -> None:
    """The index's fields, in order; a rebuild must give the same bytes."""
    run, assessments = judged_run(REALISTIC)
    assert _strict(encode_entry(run)) == {
        "timestamp": "20241224_153000",
        "run_name": "nightly 日経",
        "archived_at": run.archived_at,
        "source": run.source.path,
        "sha256": run.sha256,
        "models": 5,
        "approved_count": 1,
        "review_count": 2,
        "dropped_count": 2,
        "policy": run.policy.id,
    }
    again, _ = decode_assessments(encode_assessments(run, assessments))
    assert encode_entry(again) == encode_entry(run)


def test_record_of_assessments_counts_each_class() -> None:
    """The three counts add up to the models."""
    run, assessments = judged_run(flat_summary())
    assert run.counts == {Classification.APPROVED: 1, Classification.REVIEW: 1, Classification.DROP: 1}
    assert run.models == len(assessments) == 3


def test_document_of_schema_1_is_read_with_thresholds_refused_today() -> None:
    """A run of an earlier version with percentages for drawdown bounds stays readable, under its policy's own id."""
    document = json.loads(encode_assessments(*judged_run(flat_summary({"A": {**GOOD, "final_max_dd": 5.0}}))))
    as_schema_1(document, approved_max_drawdown=8.0, review_max_drawdown=15.0)
    document["models"][0] |= {"classification": "APPROVED", "flags": [], "reasons": []}
    document["models"][0]["metrics"]["max_drawdown"] |= {"approve": 8.0, "review": 15.0, "band": "APPROVED"}
    run, (model,) = decode_assessments(json.dumps(document).encode())
    assert (run.policy.rule, run.policy.gates[3].approve) == (1, 8.0)
    assert run.policy.id == "c71d819b"
    verdict = judge(model.values, model.decline, model.largest_fall, run.reward_scale, run.policy)
    assert verdict == (Classification.APPROVED, (), model.bands)


@pytest.mark.parametrize("version", [None, "2", 0, 1.5, 3])
def test_document_of_an_unknown_schema_raises_value_error(version: Any) -> None:
    """What a later version writes is not read as if it were known."""
    document = json.loads(encode_assessments(*judged_run(REALISTIC)))
    with pytest.raises(ValueError, match="schema_version"):
        decode_assessments(json.dumps(document | {"schema_version": version}).encode())


def test_document_of_another_policy_is_read_under_that_policy() -> None:
    """A run is read by the thresholds that judged it, whatever the host's config says today."""
    config = ModelGatingConfig(approved_min_fitness=0.95)
    run, assessments = judged_run(flat_summary(), config=config)
    again, decoded = decode_assessments(encode_assessments(run, assessments))
    assert again.policy == Policy.from_config(config)
    assert decoded[0].classification == "REVIEW"


@pytest.mark.parametrize("cut", [0, 1, 100, 500, -1, -2, -5])
def test_document_cut_short_raises_value_error(cut: int) -> None:
    """A torn file is an error to report, not half a run."""
    data = encode_assessments(*judged_run(REALISTIC))
    whole = data.rstrip()
    with pytest.raises(ValueError, match=r"."):
        decode_assessments(whole[:cut])


@pytest.mark.parametrize("data", [b"null", b"[]", b"5", b'"x"', b"{}", b"\xff", b"\0" * 100, b"[" * 100_000])
def test_document_of_something_else_raises_value_error(data: bytes) -> None:
    """People put things into archives; none of it is a run, and none of it stops the service."""
    with pytest.raises(ValueError, match=r"."):
        decode_assessments(data)


def test_document_with_any_part_missing_raises_value_error() -> None:
    """Every part is needed: what lacks one was not written by encode_assessments."""
    whole = json.loads(encode_assessments(*judged_run(REALISTIC)))
    unneeded = {"id", "approve", "review", "approved_count", "not_finite"}
    unneeded |= {"points", "last_checkpoint", "at_checkpoint", "contradictions"}  # later additions
    for place in _places(whole):
        if isinstance(place[-1], int) or place[-1] in unneeded or (place[0] == "policy" and len(place) > 1):
            continue
        document, holder = _holder(whole, place)
        del holder[place[-1]]
        with pytest.raises(ValueError, match="not a modelwarden assessment"):
            decode_assessments(json.dumps(document).encode())


FOREIGN = (None, True, -1, 1.5, 10**30, 10**400, "x", ["x"], {"x": 1})


@pytest.mark.parametrize(
    "place",
    [
        ("source",),
        ("policy",),
        ("models",),
        ("models", 0),
        ("models", 0, "classification"),
        ("models", 0, "flags"),
        ("models", 0, "metrics"),
        ("models", 0, "metrics", "fitness"),
        ("models", 0, "metrics", "fitness", "band"),
        *(
            place
            for place in (
                ("timestamp",),
                ("archived_at",),
                ("archived_by",),
                ("daemon_id",),
                ("sha256",),
                ("source", "path"),
                ("source", "size"),
                ("approved_count",),
                ("review_count",),
                ("dropped_count",),
                ("policy", "name"),
                ("policy", "rule"),
                ("policy", "decline"),
                ("policy", "judge_at"),
                ("policy", "gates", 0, "metric"),
                ("policy", "gates", 0, "approve"),
                ("policy", "gates", 0, "better"),
                ("policy", "gates", 0, "infinity"),
                ("policy", "gates", 0, "missing"),
                ("models", 0, "symbol"),
                ("models", 0, "use_checkpoint"),
                ("models", 0, "reasons"),
                ("models", 0, "metrics", "fitness", "value"),
            )
        ),
    ],
    ids=lambda place: ".".join(map(str, place)),
)
def test_document_with_a_part_of_another_type_raises_value_error(place: tuple[str | int, ...]) -> None:
    """A folder that somebody edited is reported as damaged; it must not raise anything else later, anywhere."""
    whole = json.loads(encode_assessments(*judged_run(flat_summary())))
    _, there = _holder(whole, place)
    number = (int, float) if place[-1] in {"value", "approve", "decline"} else ()
    for foreign in FOREIGN:
        same = type(foreign) is type(there[place[-1]]) or (type(foreign) in number and foreign != 10**400)
        is_one_of_some = place[0] == "policy" and place[-1] not in {"name", "metric", "approve", "decline"}
        if (same and not is_one_of_some) or (foreign is None and place[-1] == "value"):
            continue
        document, holder = _holder(whole, place)
        holder[place[-1]] = foreign
        with pytest.raises(ValueError, match=r"."):
            decode_assessments(json.dumps(document).encode())


def _strict(data: bytes) -> dict[str, Any]:
    """The JSON object, read as strictly as the standard allows."""

    def refuse(token: str) -> None:
        raise AssertionError(f"{token} is no JSON")

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        assert len(dict(pairs)) == len(pairs)
        return dict(pairs)

    document: dict[str, Any] = json.loads(data.decode("utf-8"), parse_constant=refuse, object_pairs_hook=once)
    return document


def _places(node: object, place: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The keys that lead to each part of a document, the whole left out."""
    if place:
        yield place
    if isinstance(node, dict | list):
        for key, inner in node.items() if isinstance(node, dict) else enumerate(node):
            yield from _places(inner, (*place, key))


def _holder(whole: dict[str, Any], place: tuple[str | int, ...]) -> tuple[dict[str, Any], Any]:
    """A copy of the document, and in it the object or list that holds the place."""
    document = copy.deepcopy(whole)
    holder: Any = document
    for key in place[:-1]:
        holder = holder[key]
    return document, holder
