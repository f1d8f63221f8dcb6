"""A model's line in model_assessments.json. Pure.

The rule: the keys and their order stand in the forms below and nowhere else. Of what a line costs most is the text of
its figures, so the figures of all models are put into text in one call.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import islice
from typing import Final

from pydantic_core import to_json

from modelwarden.gate.assessment import Assessment, Band, PointAssessment, finite_or_none
from modelwarden.gate.policy import Policy

_MODEL: Final = (
    b'{"symbol":%b,"classification":"%b","flags":%b,"use_checkpoint":%b,"best_idx":%b,"checkpoint_update":%b,'
    b'"peak":%b,"decline":%b,"largest_fall":%b,"fell_from":%b,"metrics":%b,"reasons":%b'
)
_NULL: Final = b"null"


def model_lines(assessments: Sequence[Assessment], policy: Policy) -> list[bytes]:
    """One JSON object a model, each on one line; what strict JSON can't hold is null, and told beside it in words."""
    figures: list[float | None] = []
    for model in assessments:
        figures += (model.peak, model.decline, model.largest_fall, model.fell_from, *model.values)
        if model.at_checkpoint is not None:
            figures += model.at_checkpoint.values
    texts = iter(to_json(figures, inf_nan_mode="null")[1:-1].split(b","))
    return [_line(model, policy.for_symbol(model.symbol), texts) for model in assessments]


def _line(model: Assessment, policy: Policy, texts: Iterator[bytes]) -> bytes:
    """The line; the model's figures come as texts."""
    line = _MODEL % (
        to_json(model.symbol),
        model.classification.encode(),
        _flags(model.flags),
        b"true" if model.use_checkpoint else b"false",
        to_json(model.best_idx),
        to_json(model.checkpoint_update),
        *islice(texts, 4),
        _metrics(model, policy, texts),
        to_json(model.reasons),
    )
    if model.points is not None:
        line += b',"points":%d,"last_checkpoint":%b' % (model.points, to_json(model.last_checkpoint))
    if (there := model.at_checkpoint) is not None:
        metrics = _metrics(there, policy, texts)
        line += b',"at_checkpoint":{"classification":"%b","metrics":%b}' % (there.classification.encode(), metrics)
    if model.contradictions:
        line += b',"contradictions":' + to_json(model.contradictions)
    if model.others:
        line += b',"others":' + to_json({name: finite_or_none(value) for name, value in model.others.items()})
    return line + b"}"


def _metrics(judged: Assessment | PointAssessment, policy: Policy, texts: Iterator[bytes]) -> bytes:
    places = tuple(islice(texts, len(judged.values)))
    if _NULL in places:
        places = tuple(
            text if text != _NULL or value is None else b'null,"not_finite":"%b"' % str(value).encode()
            for text, value in zip(places, judged.values, strict=True)
        )
    return _metrics_form(policy, judged.bands) % places


@lru_cache(maxsize=1024)
def _metrics_form(policy: Policy, bands: tuple[Band, ...]) -> bytes:
    """The object of metrics in these bands, with a place for each figure."""
    rows = [
        b'%b:{"value":%%b,"approve":%b,"review":%b,"band":"%b"}'
        % (to_json(gate.metric).replace(b"%", b"%%"), to_json(gate.approve), to_json(gate.review), band.encode())
        for gate, band in zip(policy.gates, bands, strict=True)
    ]
    return b"{%b}" % b",".join(rows)


@lru_cache(maxsize=1024)
def _flags(flags: tuple[str, ...]) -> bytes:
    return to_json([str(flag) for flag in flags])
