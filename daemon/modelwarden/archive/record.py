"""What a run says of itself, read back from model_assessments.json; the names of its files. Pure.

The rule: what archive/encoding.py did not write is refused. Somebody may have edited the file, and what is wrong must
not come out later, in the index or the catalog.
"""

import json
import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final, get_args, get_type_hints

import jiter

from modelwarden.gate.assessment import Assessment, Band, Classification, Flag, PointAssessment
from modelwarden.gate.policy import Policy
from modelwarden.gate.run import RunRecord, Source

SCHEMA_VERSION: Final = 2
"""Of model_assessments.json. 1: ten thresholds for a policy, nothing of the rule's second revision; read for ever."""

FIRST_SCHEMA: Final = 1

TIMESTAMP_AHEAD: Final = "TIMESTAMP_AHEAD"
"""The remark on a run that is dated more than a day after it was archived."""

SUMMARY_FILE: Final = "summary.json"
ASSESSMENTS_FILE: Final = "model_assessments.json"
REPORT_FILE: Final = "recommendations.md"
RUN_FILES: Final = (SUMMARY_FILE, ASSESSMENTS_FILE, REPORT_FILE)


OF_FORMATS: Final = ("format", "original", "supersedes")
"""What only runs have whose file a format read."""


BEFORE_MODELS: Final = b',\n  "models": [\n'
"""What stands between the run's fields and its models, so that the fields can be read alone."""


def files_of(run: RunRecord) -> tuple[str, ...]:
    """The names of a run's files."""
    return RUN_FILES if run.original is None else (*RUN_FILES, run.original)


_LONGEST_ORIGINAL: Final = 200


def original_name(name: str) -> str:
    """What a trainer's file is called in its run's folder: as it was, if that is a plain name and not one of ours."""
    encoded = name.encode("utf-8", "backslashreplace")
    if not name.isprintable() or len(encoded) > _LONGEST_ORIGINAL or name[:1] in {"", "."} or "/" in name:
        return "trainer-file"
    return f"trainer-{name}" if name in RUN_FILES else name


_FLAGS: Final[Mapping[str, str]] = {flag.value: flag for flag in Flag}
_CLASS: Final[Mapping[str, Classification]] = {word.value: word for word in Classification}
_BAND: Final[Mapping[str, Band]] = {word.value: word for word in Band}


def decode_assessments(data: bytes) -> tuple[RunRecord, list[Assessment]]:
    """The run and its assessments back from model_assessments.json; the histories stay in the summary.

    Raises:
        ValueError: the bytes are not what `encode_assessments` writes.
    """
    try:
        document = jiter.from_json(data)
        run = _decode_run(document)
        _insist_on_type(document["models"], _types(list), "models")
        return run, [_decode_assessment(model, run.policy) for model in document["models"]]
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise ValueError(f"not a modelwarden assessment: {error!r}") from error


def decode_head(data: bytes) -> RunRecord:
    """The run alone, without looking at its models. Raises ValueError as `decode_assessments`."""
    head, found, _ = data.partition(BEFORE_MODELS)
    try:
        return _decode_run(jiter.from_json(head + b"\n}" if found else data))
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise ValueError(f"not a modelwarden assessment: {error!r}") from error


def _decode_run(document: Mapping[str, Any]) -> RunRecord:
    document = {**dict.fromkeys(OF_FORMATS), **document}
    for name, kinds in _HEAD_TYPES.items():
        _insist_on_type(document[name], kinds, name)
    if (original := document["original"]) is not None and (original_name(original) != original):
        raise ValueError(f"not a modelwarden assessment: original is {original!r}")
    source = {name: document["source"][name] for name in Source._fields}
    for name, kinds in _SOURCE_TYPES.items():
        _insist_on_type(source[name], kinds, f"source.{name}")
    written = {name: document[name] for name in RunRecord._fields}
    return RunRecord(**{**written, "source": Source(**source), "policy": _policy_of(document)})


def _policy_of(document: Mapping[str, Any]) -> Policy:
    """What judged: the whole policy, or the ten thresholds of a file of schema 1."""
    schema, policy = document.get("schema_version"), document["policy"]
    if schema == FIRST_SCHEMA:
        return Policy.from_thresholds({name: each for name, each in policy.items() if name != "id"})
    if schema == SCHEMA_VERSION:
        return _policy_in(json.dumps(policy))
    raise ValueError(f"not a modelwarden assessment of a known schema: schema_version is {schema!r}")


@lru_cache(maxsize=64)
def _policy_in(written: str) -> Policy:
    """The same object for the same policy: an archive has thousands of runs of one."""
    return Policy.from_json(json.loads(written))


def _json_types(kind: type[Any]) -> Mapping[str, frozenset[type]]:
    """By field of a NamedTuple, what JSON has of it: an object for what has fields itself, and 1 for 1.0."""
    objects, numbers = {Source: dict, Policy: dict}, {float | None: float | int | None}
    hints = get_type_hints(kind)
    return {name: _types(objects.get(hint) or numbers.get(hint, hint)) for name, hint in hints.items()}


def _types(hint: Any) -> frozenset[type]:
    """The types of a union, or the one type."""
    return frozenset(get_args(hint) or (hint,))


_HEAD_TYPES: Final = _json_types(RunRecord)
_SOURCE_TYPES: Final = _json_types(Source)
_NUMBER: Final = _types(float | int | None)
_TEXT_TYPE: Final = _types(str)
_MODEL_TYPES: Final[Mapping[str, frozenset[type]]] = {
    "symbol": _TEXT_TYPE,
    "flags": _types(list),
    "reasons": _types(list),
    "use_checkpoint": _types(bool),
    "best_idx": _types(int | None),
    "checkpoint_update": _types(int | str | None),
    "peak": _NUMBER,
    "decline": _NUMBER,
    "largest_fall": _NUMBER,
    "fell_from": _NUMBER,
}
_ADDED_TYPES: Final[Mapping[str, frozenset[type]]] = {
    "points": _types(int | None),
    "last_checkpoint": _types(int | str | None),
    "at_checkpoint": _types(dict | None),
    "contradictions": _types(list | None),
    "others": _types(dict | None),
}
"""What runs have that were recorded since these are; an earlier one is read without."""


_LARGEST_INTEGER: Final = 2**62
"""Whole numbers that a table of 64 bits holds."""


def _insist_on_type(value: object, kinds: frozenset[type], name: str) -> None:
    """Somebody may have edited the file; what is wrong must not come out later, in the index or the catalog."""
    if type(value) not in kinds or (type(value) is int and abs(value) > _LARGEST_INTEGER):
        raise ValueError(f"not a modelwarden assessment: {name} is {value!r}")


def _decode_assessment(model: Mapping[str, Any], policy: Policy) -> Assessment:
    for name, kinds in _MODEL_TYPES.items():
        _insist_on_type(model[name], kinds, name)
    added = {name: model.get(name) for name in _ADDED_TYPES}
    for name, kinds in _ADDED_TYPES.items():
        _insist_on_type(added[name], kinds, name)
    policy = policy.for_symbol(model["symbol"])
    known = _flags_of(policy)
    flags = tuple(known[flag] if flag in known else _infinity_flag(flag, policy) for flag in model["flags"])
    others = added["others"] or {}
    for name, value in others.items():
        _insist_on_type(value, _NUMBER, name)
    values, bands = _decode_metrics(model["metrics"], policy)
    for text in (*model["reasons"], *(added["contradictions"] or ())):
        _insist_on_type(text, _TEXT_TYPE, "reasons")
    there = added["at_checkpoint"]
    return Assessment(
        symbol=model["symbol"],
        classification=_CLASS[model["classification"]],
        flags=flags,
        use_checkpoint=model["use_checkpoint"],
        best_idx=model["best_idx"],
        checkpoint_update=model["checkpoint_update"],
        values=values,
        bands=bands,
        peak=model["peak"],
        decline=model["decline"],
        largest_fall=model["largest_fall"],
        fell_from=model["fell_from"],
        reasons=tuple(model["reasons"]),
        history=(),
        points=added["points"],
        last_checkpoint=added["last_checkpoint"],
        at_checkpoint=None
        if there is None
        else PointAssessment(_CLASS[there["classification"]], *_decode_metrics(there["metrics"], policy)),
        contradictions=tuple(added["contradictions"] or ()),
        others={name: math.nan if value is None else value for name, value in others.items()},
    )


@lru_cache(maxsize=64)
def _flags_of(policy: Policy) -> Mapping[str, str]:
    """What each flag is by its text."""
    return {**_FLAGS} | {str(gate.flag): gate.flag for gate in policy.gates}


def _infinity_flag(flag: object, policy: Policy) -> str:
    if flag in {gate.infinity_flag for gate in policy.gates if gate.infinity}:
        return str(flag)
    raise ValueError(f"{flag!r} is not a flag of its policy")


def _decode_metrics(metrics: Mapping[str, Any], policy: Policy) -> tuple[tuple[float | None, ...], tuple[Band, ...]]:
    values: list[float | None] = []
    bands: list[Band] = []
    for gate in policy.gates:
        metric = metrics[gate.metric]
        _insist_on_type(metric["value"], _NUMBER, gate.metric)
        values.append(float(metric["not_finite"]) if "not_finite" in metric else metric["value"])
        bands.append(_BAND[metric["band"]])
    return tuple(values), tuple(bands)
