"""Trainings for real, against a daemon that watches meanwhile: judged at the end, once, with the library's own figures.

Each library is in an environment of its own, made here by pip; without a package index, or a library on it, its test
skips and says so.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from processes import Site, index_of, make_site, modelwarden, running_daemon, until
from training import scripts

pytestmark = [pytest.mark.training, pytest.mark.timeout(1800)]

INSTALL_SECONDS: Final = 1500

POLICY = """
[[policy]]
name = "any"
history = "{metric}"
judge_at = "{judge_at}"
[[policy.gate]]
metric = "{metric}"
better = "{better}"
approve = {bound}
review = {bound}
"""


class Training(NamedTuple):
    """A training, and how it is watched.

    Attributes:
        packages: what pip installs for it.
        script: see scripts.
        name: of the format.
        metric: that is gated.
        better: which way it improves.
        more: lines of `[[watch]]`.
        judge_at: of the policy.
        checkpoint: what the judged one is called, from what the script says was best.
    """

    packages: Sequence[str]
    script: str
    name: str
    metric: str
    better: str = "lower"
    more: Sequence[str] = ()
    judge_at: str = "last"
    checkpoint: str = "{}"


TORCH: Final = ("torch",)
TRAININGS: Final[Mapping[str, Training]] = {
    "xgboost": Training(
        ["xgboost-cpu"], scripts.XGBOOST, "evals-json", "eval_error", judge_at="best", checkpoint="round {}"
    ),
    "optuna": Training(
        ["optuna"],
        scripts.OPTUNA,
        "optuna",
        "value",
        "higher",
        ['models = "best"', 'final = "complete and quiet:3s"'],
        checkpoint="",
    ),
    "hf-trainer": Training([*TORCH, "transformers", "accelerate"], scripts.HF_TRAINER, "hf-trainer", "eval_loss"),
    "sb3": Training(
        [*TORCH, "stable-baselines3"], scripts.SB3, "sb3", "mean_reward", "higher", ['final = "marker:final_model.zip"']
    ),
    "lightning": Training(
        [*TORCH, "lightning"], scripts.LIGHTNING, "lightning", "val_loss", more=['final = "quiet:5s"'], judge_at="best"
    ),
}


@pytest.fixture(scope="session")
def environments(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the libraries' environments are made; $TRAINING_ENVIRONMENTS keeps them for the next time."""
    kept = os.environ.get("TRAINING_ENVIRONMENTS")
    return Path(kept) if kept else tmp_path_factory.mktemp("environments")


def python_with(packages: Sequence[str], environments: Path) -> Path:
    """A Python that has the packages; skips the test where they can't be had."""
    folder = environments / "-".join(packages)
    python = folder / "bin" / "python"
    if not (folder / "whole").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        words = [str(python), "-m", "pip", "install", "-q", *packages]
        done = subprocess.run(words, capture_output=True, encoding="utf-8", timeout=INSTALL_SECONDS, check=False)
        if done.returncode:
            pytest.skip(f"not run, for want of {', '.join(packages)}: {done.stderr.strip().splitlines()[-1:]}")
        (folder / "whole").write_text("")
    return python


def site_of(folder: Path, training: Training) -> Site:
    """A folder with the format, and a policy that approves whatever the figure is."""
    lines = ["[[watch]]", 'path = "out"', f'format = "{training.name}"', 'policy = "any"', *training.more, ""]
    bound = "1e9" if training.better == "lower" else "-1e9"
    policy = POLICY.format(metric=training.metric, better=training.better, bound=bound, judge_at=training.judge_at)
    return make_site(folder, policy, watch="\n".join(lines))


@pytest.mark.parametrize("library", TRAININGS)
def test_training_is_judged_at_its_end_and_once(library: str, tmp_path: Path, environments: Path) -> None:
    """No run before the trainer's last write, one after it, its figure the library's own."""
    training = TRAININGS[library]
    python = python_with(training.packages, environments)
    site = site_of(tmp_path, training)
    with running_daemon("--config", site.config, log=site.log, cwd=tmp_path) as daemon:
        clean = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "CUDA_VISIBLE_DEVICES": ""}
        done = subprocess.run(
            [python, "-c", training.script, site.out],
            env=clean,
            capture_output=True,
            encoding="utf-8",
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        [event] = daemon.wait_for("run_archived")
        seconds = time.time() - said["written"]
        until((site.archive / "index.json").exists, "the index")
        daemon.stop()
    [run] = index_of(site.archive)
    assert daemon.events("summary_rejected") == []
    document = json.loads((site.archive / run["timestamp"] / "model_assessments.json").read_text(encoding="utf-8"))
    [model] = document["models"]
    assert document["archived_at"] > _iso(said["written"] - 5)
    assert model["metrics"][training.metric]["value"] == pytest.approx(said["value"])
    if training.checkpoint:
        best = Path(str(said["best"])).name.removesuffix(".ckpt")
        assert str(model["last_checkpoint"]) == training.checkpoint.format(best)
    assert modelwarden("verify", "--config", site.config, cwd=tmp_path).returncode == 0
    print(f"{library}: {event['run']} {seconds:.1f} s after the script's end")  # noqa: T201 - for who measures


def _iso(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
