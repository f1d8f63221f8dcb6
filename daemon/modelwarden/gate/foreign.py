"""Files of other programs: how they are told from a summary, and what the person who left one is told.

The rule: a program is named only if keys that are its own say so, and the name decides nothing. What decides is that no
model has a single metric that the policy knows.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from modelwarden.errors import RejectSummary
from modelwarden.gate.gates import Gate
from modelwarden.gate.json_object import quote

_KEYS_SHOWN: Final = 5

_FORMATS: Final = (
    # What it is, keys of its top level that are all there in it and in no other, and the format that reads it.
    ("results of lm-evaluation-harness", {"results", "lm_eval_version"}, "lm-eval"),
    ("results of lm-evaluation-harness", {"results", "configs", "n-shot"}, "lm-eval"),
    ("the state of a Hugging Face trainer", {"log_history", "global_step"}, "hf-trainer"),
    ("results of a Hugging Face trainer", {"epoch", "eval_runtime"}, "hf-results"),
    ("results of a Hugging Face trainer", {"epoch", "train_runtime"}, "hf-results"),
    ("a backtest of freqtrade", {"strategy", "strategy_comparison"}, ""),
    ("the state of a Ray Tune experiment", {"trial_data", "runner_data"}, "ray-experiment"),
    ("an XGBoost model", {"learner", "version"}, ""),
    ("a training log of CatBoost", {"meta", "iterations"}, "catboost"),
    ("the statistics of backtesting.py", {"Start", "End", "Equity Final [$]"}, "backtesting"),
    ("the statistics of vectorbt", {"Start", "End", "Start Value", "End Value"}, "vectorbt"),
    ("a run summary of Weights & Biases", {"_step", "_runtime", "_timestamp"}, "wandb-summary"),
)


class Foreign(RejectSummary):
    """No model has a metric that the policy knows: these are another program's results."""


def foreign(document: Mapping[str, Any], place: str, entry: Mapping[str, Any], gates: Sequence[Gate]) -> Foreign:
    """Why a file whose models have no known metric is none of ours.

    Args:
        document: the whole file.
        place: where one of its models stands.
        entry: that model.
        gates: the metrics that were looked for.
    """
    flat = ", ".join(gate.argument for gate in gates)
    series = ", ".join(gate.series for gate in gates)
    return Foreign(
        f"no model has a metric that is known; this one has {_keys_of(entry)}{looks_like(document)}",
        where=place,
        hint=f'expected {flat}, or "metrics" with lists called {series}',
    )


def looks_like(document: Mapping[str, Any]) -> str:
    """Whose file it is, as the end of a sentence; "" if nothing tells."""
    found = next(((name, format_) for name, keys, format_ in _FORMATS if keys <= document.keys()), None)
    if found is None:
        return ""
    name, format_ = found
    return f"; the file looks like {name}" + (f': set format = "{format_}" in its [[watch]]' if format_ else "")


def what_it_holds(document: Mapping[str, Any]) -> str:
    """The keys of a file that holds no models, and whose it is, as the end of a sentence."""
    return f"; there are {_keys_of(document)}{looks_like(document)}"


def has_known_metric(entry: object, flat: frozenset[str], series: frozenset[str], containers: Sequence[str]) -> bool:
    """Whether a model has any metric that is known, whatever its value.

    Args:
        entry: the model.
        flat: the fields of the flat layout.
        series: the lists of the other layout.
        containers: where a model may keep these lists.
    """
    if not isinstance(entry, dict):
        return False
    if not flat.isdisjoint(entry):
        return True
    inner = (entry.get(name) for name in containers)
    # A "metrics" that is no object is refused as one that was meant.
    return any(not series.isdisjoint(lists) if isinstance(lists, dict) else lists is not None for lists in inner)


def _keys_of(mapping: Mapping[str, Any]) -> str:
    """The first keys, quoted, and how many others there are."""
    shown = [quote(key) for key, _ in zip(mapping, range(_KEYS_SHOWN), strict=False)]
    others = len(mapping) - len(shown)
    if not shown:
        return "no keys"
    return ", ".join(shown) + (f" and {others} other{'s' if others > 1 else ''}" if others else "")
