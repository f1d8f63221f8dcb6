"""Summaries for tests: dicts and bytes in both layouts, with figures that land where a test wants them."""

import hashlib
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from modelwarden.archive.encoding import encode_assessments
from modelwarden.archive.report import render_report
from modelwarden.gate.assessment import Assessment
from modelwarden.gate.gating import assess_summary
from modelwarden.gate.policy import Policy
from modelwarden.gate.run import RunRecord, Source, class_counts
from modelwarden.gate.summary import parse_summary
from modelwarden.gate.thresholds import ModelGatingConfig

GOOD = {"final_fitness": 0.91, "final_pf": 2.4, "final_consistency": 0.9, "final_max_dd": 0.04}
MIDDLING = {"final_fitness": 0.6, "final_pf": 1.5, "final_consistency": 0.7, "final_max_dd": 0.1}
BAD = {"final_fitness": 0.2, "final_pf": 0.8, "final_consistency": 0.4, "final_max_dd": 0.3}


def flat_summary(
    models: Mapping[str, Mapping[str, Any]] | None = None, *, timestamp: str | None = "20241224_153000", **fields: Any
) -> dict[str, Any]:
    """A summary in the flat layout: one model of each class unless told otherwise. `timestamp=None` leaves it out."""
    chosen = models if models is not None else {"GOOD": GOOD, "MIDDLING": MIDDLING, "BAD": BAD}
    summary: dict[str, Any] = {"models": [{"symbol": symbol, **figures} for symbol, figures in chosen.items()]}
    if timestamp is not None:
        summary["timestamp"] = timestamp
    return summary | fields


def series_summary(
    models: Mapping[str, Sequence[tuple[float, float, float, float]]], *, timestamp: str | None = None, **fields: Any
) -> dict[str, Any]:
    """A summary in the layout of lists: per symbol the points (fitness, profit factor, consistency, drawdown)."""
    names = ("fitness_score", "profit_factor", "consistency", "max_drawdown")
    summary: dict[str, Any] = {
        "results": {
            symbol: {
                "metrics": {name: list(column) for name, column in zip(names, zip(*points, strict=True), strict=True)}
            }
            for symbol, points in models.items()
        }
    }
    if timestamp is not None:
        summary["timestamp"] = timestamp
    return summary | fields


def random_summary(seed: int, *, models: int = 50, points: int = 30) -> dict[str, Any]:
    """A realistic summary of that many models, flat, the same for the same seed; every seed has its own timestamp."""
    chance = random.Random(seed)
    day, second = divmod(seed, 86_400)
    year, day = divmod(day, 28)
    entries = []
    for index in range(models):
        level = chance.uniform(0.3, 0.98)
        history = [round(level * (1 - 0.6 * 0.8**point) + chance.uniform(-0.03, 0.03), 6) for point in range(points)]
        entries.append(
            {
                "symbol": f"SYM{index:03d}",
                "final_fitness": history[-1],
                "final_pf": round(0.7 + level * chance.uniform(1.0, 2.2), 6),
                "final_consistency": round(min(1.0, level + chance.uniform(-0.2, 0.1)), 6),
                "final_max_dd": round(abs(chance.gauss(0.08, 0.04)), 6),
                "fitness_history": history,
            }
        )
    return {
        "run_name": f"run-{seed}",
        "timestamp": f"{2000 + year:04d}01{day + 1:02d}_{second // 3600:02d}{second // 60 % 60:02d}{second % 60:02d}",
        "validation_interval": 50,
        "models": entries,
    }


def encoded(summary: Mapping[str, Any]) -> bytes:
    """The bytes a trainer would write: NaN and Infinity as Python writes them."""
    return json.dumps(summary).encode()


def judged_run(
    summary: Mapping[str, Any],
    *,
    timestamp: str = "20241224_153000",
    path: str = "/training_output/summary.json",
    config: ModelGatingConfig | None = None,
) -> tuple[RunRecord, list[Assessment]]:
    """The record and the assessments of a summary as the daemon would archive it, without a disk."""
    data = encoded(summary)
    policy = Policy.from_config(config)
    parsed = parse_summary(data, policy)
    assessments = assess_summary(parsed, policy)
    run = RunRecord(
        timestamp=timestamp,
        run_name=parsed.run_name,
        archived_at="2024-12-24T15:30:05.000000Z",
        archived_by="trainer-7",
        daemon_id="0f1e2d3c",
        source=Source(path, len(data), "2024-12-24T15:30:00.000000Z"),
        sha256=hashlib.sha256(data).hexdigest(),
        reward_scale=parsed.reward_scale,
        policy=policy,
        **class_counts(assessments),
    )
    return run, assessments


def run_folder(root: Path, summary: Mapping[str, Any], timestamp: str, *, archived_at: str | None = None) -> RunRecord:
    """Put a run's folder into an archive, and nothing else; return its record."""
    run, assessments = judged_run(summary, timestamp=timestamp)
    if archived_at is not None:
        run = run._replace(archived_at=archived_at)
    (root / timestamp).mkdir(parents=True)
    (root / timestamp / "summary.json").write_bytes(encoded(summary))
    (root / timestamp / "model_assessments.json").write_bytes(encode_assessments(run, assessments))
    (root / timestamp / "recommendations.md").write_text(render_report(run, assessments), encoding="utf-8")
    return run


def as_schema_1(document: dict[str, Any], **thresholds: float) -> None:
    """Make a run's document one of the first schema: ten thresholds for a policy, and nothing that came later."""
    document["schema_version"] = 1
    document["policy"] = {"id": "24e76465", **asdict(ModelGatingConfig()), **thresholds}
    for model in document["models"]:
        for key in ("points", "last_checkpoint", "at_checkpoint", "contradictions", "others"):
            model.pop(key, None)
