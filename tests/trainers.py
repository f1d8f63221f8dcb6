"""Real output of trainers for tests: where each file is, and what a format makes of it."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from modelwarden.formats.bundle import bundle
from modelwarden.formats.description import Format
from modelwarden.formats.normalising import NotFinal, Wish
from modelwarden.formats.sandbox import translate
from modelwarden.formats.shelf import presets
from modelwarden.formats.worker import Order

TRAINERS: Final = Path(__file__).parent / "data" / "trainers"

RAY = "ray-tune/dev/tune_seed1"
FILES: Final[dict[str, Sequence[str]]] = {
    "backtesting": ["backtestingpy/dev/seed1/stats.json"],
    "bt": ["bt/dev/seed1/stats.json"],
    "catboost": ["catboost/dev/seed1/catboost_info/catboost_training.json"],
    "dvclive": ["dvclive/dev/seed1/dvclive/metrics.json"],
    "evals-json": [
        "xgboost/dev/seed1/xgb_evals_result.json",
        "xgboost/dev/seed1/xgb_sklearn_evals_result.json",
        "lightgbm/dev/seed1/lgb_record_evaluation.json",
    ],
    "freqtrade": ["freqtrade/dev/backtest-result-2026-11-23_23-59-27.zip"],
    "freqtrade-hyperopt": ["freqtrade-hyperopt/dev/strategy_Rebound_2026-11-24_00-14-00.fthypt"],
    "hf-results": ["hf-trainer/dev/bert/all_results.json", "hf-trainer/dev/bert/eval_results.json"],
    "hf-trainer": ["hf-trainer/traps/early_stopping/checkpoint-50/trainer_state.json"],
    "hf-trainer-state": ["hf-trainer/dev/bert/trainer_state.json", "trl/dev/dpo_seed1/trainer_state.json"],
    "keras": ["keras/dev/seed1/training.log"],
    "keras-history": ["keras/dev/seed1/history.json"],
    "lightning": ["lightning/dev/seed1/lightning_logs/version_0/metrics.csv"],
    "lm-eval": ["lm-eval/dev/seed1/results_2026-11-24T00-17-16.626178.json"],
    "mlflow": ["mlflow/dev/mlruns/431705591089471208/903062f7ea344844b6e4b0ed731a78c9/meta.yaml"],
    "optuna": ["optuna/dev/study_1/journal.log"],
    "optuna-trials": ["optuna/dev/study_1/trials.json"],
    "quantstats": ["quantstats/dev/seed1/metrics.json"],
    "ray": [
        f"{RAY}/f_8a3a4_00003_3_layers=2,lr=0.0008_2026-11-23_23-56-56/result.json",
        "ray-rllib/dev/rllib_seed1/PPO_CartPole-v1_ab7c7_00000_0_2026-11-24_00-04-51/result.json",
    ],
    "ray-experiment": [f"{RAY}/experiment_state-2026-11-23_23-56-51.json"],
    "sb3": ["sb3/dev/ppo_seed1/evaluations.npz"],
    "sklearn": ["sklearn/dev/seed1/cv_results.json", "sklearn/dev/seed1/cv_results_pandas.json"],
    "ultralytics": ["ultralytics/dev/seed1/train/results.csv"],
    "vectorbt": ["vectorbt/dev/seed1/stats.json", "vectorbt/dev/seed1/stats_one.json"],
    "wandb-summary": ["wandb/dev/seed1/summary_dumped_by_user.json"],
    "xgb-cv": ["xgboost/dev/seed1/xgb_cv.json"],
}
"""By format, the real files that it is held to."""


_PLAIN: Final = Wish()


def bytes_of(format_: Format, path: Path) -> bytes:
    """What the daemon would read of the file: itself, or the run's files together."""
    if not format_.together:
        return path.read_bytes()
    files = {path.name: path}
    files |= {os.path.relpath(each, path.parent): each for glob in format_.together for each in path.parent.glob(glob)}
    return bundle({name: each.read_bytes() for name, each in files.items() if each.is_file()})


def made_of(name: str, file: str | Path, wish: Wish = _PLAIN, kept: Sequence[str] | None = None) -> dict[str, Any]:
    """The summary that a preset makes of a real file."""
    path = TRAINERS / file
    format_ = presets()[name]
    made = translate(
        Order(format_, str(path), wish, None if kept is None else {"": frozenset(kept)}), bytes_of(format_, path)
    )
    assert isinstance(made, bytes)
    document: dict[str, Any] = json.loads(made)
    return document


def model_of(name: str, file: str | Path, wish: Wish = _PLAIN, kept: Sequence[str] | None = None) -> dict[str, Any]:
    """The only model of it."""
    [model] = made_of(name, file, wish, kept)["models"]
    return dict(model)


def is_final(name: str, data: bytes, path: str = "/runs/one/file") -> bool:
    """Whether a preset's program says that the training ended."""
    return not isinstance(translate(Order(presets()[name], path, Wish(if_complete=True)), data), NotFinal)
