"""Presets, each held to what its trainer really wrote: figures, names, checkpoints, the end of a run, the traps."""

import csv
import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modelwarden.errors import RejectSummary
from modelwarden.formats.bundle import bundle
from modelwarden.formats.description import problems_of
from modelwarden.formats.finality import Look, parse_condition
from modelwarden.formats.fitting import fitted
from modelwarden.formats.normalising import DIVERGED, NotFinal, Wish
from modelwarden.formats.sandbox import complaint_about, translate
from modelwarden.formats.shelf import presets
from modelwarden.formats.worker import Order
from modelwarden.gate.gates import Better, Gate, JudgeAt, Missing
from modelwarden.gate.gating import assess_summary
from modelwarden.gate.policy import Policy
from modelwarden.gate.summary import parse_summary
from modelwarden.intake.settling import Settling
from modelwarden.pipeline.policies import JudgedFolder
from modelwarden.service.endings import Endings
from trainers import FILES, RAY, TRAINERS, bytes_of, is_final, made_of, model_of

EVERY = [(name, file) for name, files in FILES.items() for file in files]
BEST = Wish(only_best=True)


def read(file: str) -> Any:
    """A JSON file as the trainer wrote it."""
    return json.loads((TRAINERS / file).read_text(encoding="utf-8"))


def table(file: str) -> list[dict[str, str]]:
    """A table likewise."""
    with (TRAINERS / file).open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def judged(name: str, file: str, gates: Mapping[str, tuple[str, float, float]], **policy: Any) -> Any:
    """What a policy of these gates says of the file's only model."""
    rows = tuple(Gate(metric, approve, review, Better(better)) for metric, (better, approve, review) in gates.items())
    judging = fitted(Policy(rows, name="test", **policy), presets()[name])
    summary = json.dumps(made_of(name, file, Wish(history=judging.history or ""))).encode()
    [assessment] = assess_summary(parse_summary(summary, judging), judging)
    return assessment


def test_every_preset_has_a_real_file() -> None:
    """A preset that nothing was tried with is none."""
    assert set(presets()) == set(FILES)


@pytest.mark.parametrize("name", presets())
def test_preset_is_sound(name: str) -> None:
    """What is refused in a user's format is in no preset; and each says something for people."""
    format_ = presets()[name]
    assert [*problems_of(format_)] == []
    assert complaint_about(format_.program) == ""
    assert format_.title
    assert format_.notes.strip()


@pytest.mark.parametrize(("name", "file"), EVERY)
def test_preset_takes_its_file(name: str, file: str) -> None:
    """By the end of its path."""
    assert presets()[name].takes(f"/srv/{file}")


@pytest.mark.parametrize(("name", "file"), EVERY)
def test_preset_makes_a_summary(name: str, file: str) -> None:
    """One that the gate reads, with a course wherever the file has one, and complete where that is asked."""
    format_ = presets()[name]
    path = TRAINERS / file
    data = bytes_of(format_, path)
    asked = any(each.complete for each in format_.conditions)
    made = translate(Order(format_, str(path), Wish(if_complete=asked)), data)
    assert isinstance(made, bytes)
    [model, *_] = json.loads(made)["models"]
    for metric in [*dict.fromkeys((next(iter(model["metrics"])), list(model["metrics"])[-1]))]:
        policy = Policy((Gate(metric, 0.0, 0.0, missing=Missing.IGNORE),), history=metric, name="any")
        made = translate(Order(format_, str(path), Wish(history=metric)), data)
        assert isinstance(made, bytes)
        assert not any(each.contradictions for each in parse_summary(made, policy).models), metric


@pytest.mark.parametrize(("name", "file"), [each for each in EVERY if not presets()[each[0]].together])
def test_cut_file_makes_no_summary_of_its_own(name: str, file: str) -> None:
    """A cut log says less, and what is one document nothing: no figure that the whole file has not.

    Not of formats of several files: each of those is read by a reader that is tried by itself.
    """
    format_ = presets()[name]
    path = TRAINERS / file
    data = bytes_of(format_, path)
    whole = figures_of(translate(Order(format_, str(path)), data))
    for share in (0.0, 0.3, 0.61, 0.9, 1.0):
        cut = data[: int(share * len(data)) - (share == 1.0)]
        try:
            found = figures_of(translate(Order(format_, str(path)), cut))
        except RejectSummary:
            continue
        assert found <= whole, share


def figures_of(made: bytes | NotFinal) -> set[tuple[str, str, str]]:
    """Every figure of a summary; what is missing is none."""
    assert isinstance(made, bytes)
    return {
        (model["symbol"], metric, repr(point))
        for model in json.loads(made)["models"]
        for metric, points in model["metrics"].items()
        for point in (points if isinstance(points, list) else [points])
        if point is not None
    }


@pytest.mark.parametrize(("name", "file"), [each for each in EVERY if presets()[each[0]].last_line])
def test_file_that_is_complete_is_worth_reading(name: str, file: str) -> None:
    """A last line that keeps a file from being read never keeps one whose program says that it ended."""
    path = TRAINERS / file
    assert is_final(name, bytes_of(presets()[name], path), str(path))
    assert is_worth_reading(name, path)


@pytest.mark.parametrize(
    ("name", "file", "text", "by"),
    [
        ("ray", FILES["ray"][0], r'"done": true', '"done": false'),
        ("ultralytics", FILES["ultralytics"][0], r"\n3,.*", "\n"),
        ("ultralytics", FILES["ultralytics"][0], r"\n4,.*\n", "\n4"),  # the beginning of a row tells nothing
        ("catboost", FILES["catboost"][0], r',\n[^\n]*"iteration":58,.*', "\n]}"),
        ("catboost", FILES["catboost"][0], r"\n\{\"learn\".*", "\n]}"),
        ("catboost", "catboost/traps/while_training_5_of_30.json", "", ""),
        ("ray-experiment", FILES["ray-experiment"][0], r'status\\": \\"TERMINATED', r"status\": \"RUNNING"),
    ],
)
def test_file_of_a_training_that_goes_on_is_not_worth_reading(
    tmp_path: Path, name: str, file: str, text: str, by: str
) -> None:
    """The last line tells: the file is not read, and no program is run."""
    source = TRAINERS / file
    for beside in presets()[name].together:
        (tmp_path / beside).write_bytes((source.parent / beside).read_bytes())
    written = source.read_text(encoding="utf-8")
    path = tmp_path / source.name
    path.write_text(re.sub(text, lambda _: by, written, count=1, flags=re.DOTALL) if text else written)
    assert (path.read_text(encoding="utf-8") == written) is not bool(text)
    assert not is_worth_reading(name, path)


def is_worth_reading(name: str, path: Path) -> bool:
    """Whether the daemon would read a file that stands still for what it says of its end."""
    format_ = presets()[name]
    folder = JudgedFolder(str(path.parent), format_.names, "p", format_, (parse_condition("complete"),))
    return Endings(Settling(0.0, 0.0), 0.0).look(str(path), folder) is Look.READ_IF_COMPLETE


def test_hf_trainer_points_are_the_evaluations() -> None:
    """Rows of training between them are none; a checkpoint is called as its folder is."""
    file = "hf-trainer/dev/bert/trainer_state.json"
    rows = [row for row in read(file)["log_history"] if "eval_loss" in row]
    model = model_of("hf-trainer-state", file)
    assert model["symbol"] == "bert"
    assert model["metrics"]["eval_loss"] == [row["eval_loss"] for row in rows]
    assert model["metrics"]["eval_accuracy"] == [row["eval_accuracy"] for row in rows]
    assert model["checkpoints"] == [f"checkpoint-{row['step']}" for row in rows]
    assert not [name for name in model["metrics"] if name.endswith(("runtime", "per_second"))]


def test_hf_trainer_checkpoint_is_final_when_its_training_ended() -> None:
    """By steps or by early stopping; the states before it are never judged."""
    early = (TRAINERS / "hf-trainer/traps/early_stopping/checkpoint-50/trainer_state.json").read_bytes()
    assert is_final("hf-trainer", early)
    assert not is_final("hf-trainer", (TRAINERS / "hf-trainer/dev/bert/checkpoint-150/trainer_state.json").read_bytes())
    assert is_final("hf-trainer-state", (TRAINERS / "hf-trainer/dev/bert/trainer_state.json").read_bytes())


def test_hf_trainer_takes_one_of_the_two_states() -> None:
    """The same training stands in its root and in each checkpoint: it is one run."""
    kept, root = "/out/bert/checkpoint-200/trainer_state.json", "/out/bert/trainer_state.json"
    assert [presets()["hf-trainer"].takes(each) for each in (kept, root)] == [True, False]
    assert [presets()["hf-trainer-state"].takes(each) for each in (kept, root)] == [False, True]


def test_hf_trainer_names_only_checkpoints_that_are_there() -> None:
    """eval_steps 25 with save_steps 50: step 25 has a figure and no checkpoint; retention deleted others."""
    file = "hf-trainer/traps/uneven_eval25_save50/trainer_state.json"
    model = model_of("hf-trainer-state", file, kept=["checkpoint-150", "checkpoint-190"])
    assert model["checkpoints"] == [None, None, None, None, None, "checkpoint-150", None, "checkpoint-190"]


def test_hf_trainer_ends_at_the_checkpoint_that_was_kept() -> None:
    """Early stopping with load_best_model_at_end: the model that is left is step 20's, not the last row's."""
    file = "hf-trainer/traps/early_stopping/checkpoint-50/trainer_state.json"
    model = model_of("hf-trainer", file, Wish(at_saved=True))
    assert model["checkpoints"] == ["checkpoint-10", "checkpoint-20"]
    assert model["metrics"]["eval_loss"][-1] == read(file)["best_metric"]


def test_hf_trainer_several_evaluation_sets_are_one_point() -> None:
    """Each set has a row of its own, of the same step."""
    rows = [
        {"step": 5, "eval_a_loss": 0.5},
        {"step": 5, "eval_b_loss": 0.6},
        {"step": 9, "eval_a_loss": 0.4},
        {"step": 9, "eval_b_loss": 0.7},
    ]
    data = json.dumps({"log_history": rows, "global_step": 9, "max_steps": 9}).encode()
    made = translate(Order(presets()["hf-trainer"], "/a/run/checkpoint-9/trainer_state.json"), data)
    assert isinstance(made, bytes)
    [model] = json.loads(made)["models"]
    assert model["metrics"]["eval_a_loss"] == [0.5, 0.4]
    assert model["metrics"]["eval_b_loss"] == [0.6, 0.7]


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("hf-trainer-state", "hf-trainer/traps/diverged_nan/trainer_state.json"),
        ("hf-results", "hf-trainer/traps/diverged_nan/all_results.json"),
    ],
)
def test_diverged_run_is_not_approved_on_its_accuracy(name: str, file: str) -> None:
    """The loss is NaN, the accuracy looks sane, and no gate names the loss."""
    assessment = judged(name, file, {"eval_accuracy": ("higher", 0.4, 0.3)})
    assert assessment.classification == "DROP"
    assert "DIVERGED" in assessment.flags
    assert assessment.values[0] == 0.46875


def test_model_that_no_gate_judges_is_not_approved_for_its_soundness() -> None:
    """Every gate may ignore what it lacks; that nothing diverged is no reason to deploy it."""
    policy = Policy((Gate("nope", 0.0, 0.0, missing=Missing.IGNORE),), name="test")
    judging = fitted(policy, presets()["hf-trainer-state"])
    summary = json.dumps({"models": [{"symbol": "A", "metrics": {"nope": None, "eval_loss": [0.1]}}]}).encode()
    [assessment] = assess_summary(parse_summary(summary, judging), judging)
    assert assessment.classification == "DROP"


def test_sound_run_is_approved_on_its_accuracy() -> None:
    """The gate of diverged figures drops nothing else."""
    assessment = judged(
        "hf-trainer-state", "hf-trainer/dev/bert/trainer_state.json", {"eval_accuracy": ("higher", 0.4, 0.3)}
    )
    assert assessment.classification == "APPROVED"


def test_trl_names_with_slashes_are_metrics() -> None:
    """A policy may gate eval_rewards/accuracies."""
    file = "trl/dev/dpo_seed1/trainer_state.json"
    rows = [row for row in read(file)["log_history"] if "eval_loss" in row]
    points = model_of("hf-trainer-state", file)["metrics"]["eval_rewards/accuracies"]
    assert points == [row["eval_rewards/accuracies"] for row in rows]


def test_sb3_reward_is_the_mean_of_the_episodes() -> None:
    """A point an evaluation; a checkpoint is known by its steps."""
    file = "sb3/dev/ppo_seed1/evaluations.npz"
    with np.load(TRAINERS / file) as arrays:
        means, steps = arrays["results"].mean(axis=1).tolist(), arrays["timesteps"].tolist()
    model = model_of("sb3", file, kept=[str(steps[0]), str(steps[-1])])
    assert model["metrics"]["mean_reward"] == pytest.approx(means)
    assert model["checkpoints"] == [steps[0], *[None] * (len(steps) - 2), steps[-1]]


def test_lightning_point_is_a_validation_and_not_the_last_row() -> None:
    """The last rows are train and test; the checkpoint's name counts a step more than the row."""
    file = "lightning/dev/seed1/lightning_logs/version_0/metrics.csv"
    rows = [row for row in table(file) if row["val_loss"]]
    assert not table(file)[-1]["val_loss"]
    model = model_of("lightning", file)
    assert model["symbol"] == "lightning_logs/version_0"
    assert model["metrics"]["val_loss"] == [float(row["val_loss"]) for row in rows]
    assert model["checkpoints"] == [f"epoch={row['epoch']}-step={int(row['step']) + 1}" for row in rows]
    assert model["metrics"]["test_acc"] == float(next(row["test_acc"] for row in table(file) if row["test_acc"]))


def test_freqtrade_has_a_model_a_strategy() -> None:
    """The drawdown is a positive fraction; where nothing lost, 0.0 is infinite."""
    file = FILES["freqtrade"][0]
    models = {each["symbol"]: each["metrics"] for each in made_of("freqtrade", file)["models"]}
    assert set(models) == {"Rebound", "Trend"}
    assert models["Rebound"]["max_drawdown"][0] == pytest.approx(0.27546656258)
    assert models["Rebound"]["win_rate"] == [0.6]


def test_freqtrade_pointer_is_passed_over() -> None:
    """Two files beside the result are no results."""
    format_ = presets()["freqtrade"]
    assert not format_.takes("/b/backtest-result-2026-11-23_23-59-27.meta.json")
    assert not format_.takes("/b/.last_result.json")


def test_hyperopt_best_is_the_last_that_freqtrade_called_so() -> None:
    """Several epochs are `best so far`; a factor without losses is infinite."""
    file = FILES["freqtrade-hyperopt"][0]
    rows = [json.loads(line) for line in (TRAINERS / file).read_text(encoding="utf-8").splitlines()]
    best = [row for row in rows if row["is_best"]][-1]
    model = model_of("freqtrade-hyperopt", file, BEST)
    assert model["symbol"] == f"Rebound/epoch-{best['current_epoch']}"
    assert model["metrics"]["loss"] == [best["loss"]]
    factors = [each["metrics"]["profit_factor"][0] for each in made_of("freqtrade-hyperopt", file)["models"]]
    assert math.inf in factors


def test_ray_trial_is_final_when_its_last_row_is_done() -> None:
    """Not before; the log's end is looked at alone for that."""
    data = (TRAINERS / FILES["ray"][0]).read_bytes()
    assert is_final("ray", data)
    assert not is_final("ray", b"".join(data.splitlines(keepends=True)[:-1]))
    model = model_of("ray", FILES["ray"][0])
    assert model["checkpoints"] == ["iteration 1", "iteration 2", "iteration 3", "checkpoint_000000"]
    assert set(model["metrics"]) == {"accuracy", "val_loss"}


def test_rllib_repeated_evaluation_is_no_point() -> None:
    """18.0 stands in two rows: it was measured once."""
    file = FILES["ray"][1]
    rows = [json.loads(line) for line in (TRAINERS / file).read_text(encoding="utf-8").splitlines()]
    written = [row["evaluation"]["env_runners"]["episode_return_mean"] for row in rows if row.get("evaluation")]
    points = model_of("ray", file)["metrics"]["evaluation/env_runners/episode_return_mean"]
    assert len(points) == len(rows)
    assert len([point for point in points if point is not None]) < len(written)
    assert points[-1] == written[-1]


def test_ray_experiment_has_every_trial() -> None:
    """JSON inside JSON; the best is the policy's."""
    file = FILES["ray-experiment"][0]
    assert len(made_of("ray-experiment", file)["models"]) == len(read(file)["trial_data"])
    wish = Wish(only_best=True, history="val_loss", better=Better.LOWER)
    losses = [each["metrics"]["val_loss"][0] for each in made_of("ray-experiment", file)["models"]]
    assert model_of("ray-experiment", file, wish)["metrics"]["val_loss"] == [min(losses)]


def test_ultralytics_row_is_the_weights_before_it() -> None:
    """Epochs count from 1 in the table, and from 0 in the names; args.yaml says how many there will be."""
    file = FILES["ultralytics"][0]
    model = model_of("ultralytics", file)
    assert model["checkpoints"] == ["epoch0", "epoch1", "epoch2", "epoch3"]
    assert model["metrics"]["val/box_loss"] == [float(row["val/box_loss"]) for row in table(file)]


def test_ultralytics_is_final_with_its_last_epoch(tmp_path: Path) -> None:
    """Three rows of four are none."""
    format_ = presets()["ultralytics"]
    source = TRAINERS / FILES["ultralytics"][0]
    (tmp_path / "args.yaml").write_bytes((source.parent / "args.yaml").read_bytes())
    (tmp_path / "results.csv").write_bytes(b"".join(source.read_bytes().splitlines(keepends=True)[:-1]))
    assert is_final("ultralytics", bytes_of(format_, source))
    assert not is_final("ultralytics", bytes_of(format_, tmp_path / "results.csv"))


def test_ultralytics_that_trains_by_time_is_final_when_it_is_quiet(tmp_path: Path) -> None:
    """Then `epochs` is none of the end: the trainer counts them anew after each."""
    format_ = presets()["ultralytics"]
    source = TRAINERS / FILES["ultralytics"][0]
    args = (source.parent / "args.yaml").read_text(encoding="utf-8")
    (tmp_path / "args.yaml").write_text(args.replace("time: null", "time: 0.5"), encoding="utf-8")
    table = tmp_path / "results.csv"
    table.write_bytes(source.read_bytes())
    assert not is_final("ultralytics", bytes_of(format_, table))
    assert not is_worth_reading("ultralytics", table)


def test_evals_json_joins_set_and_metric() -> None:
    """XGBoost's two layouts and LightGBM's are one."""
    names = [set(model_of("evals-json", file)["metrics"]) for file in FILES["evals-json"]]
    assert names[0] == {f"{each}_{metric}" for each in ("train", "eval") for metric in ("logloss", "auc", "error")}
    assert "validation_0_logloss" in names[1]
    assert "valid_0_auc" in names[2]
    model = model_of("evals-json", FILES["evals-json"][0])
    assert model["metrics"]["eval_logloss"] == read(FILES["evals-json"][0])["eval"]["logloss"]
    assert model["checkpoints"][:2] == ["round 0", "round 1"]


def test_evals_json_best_round_is_judged_after_early_stopping() -> None:
    """The last round is not the model's; the model's file says best_iteration 12, by the last metric."""
    gates = {"eval_error": ("lower", 0.9, 0.95)}
    assessment = judged("evals-json", FILES["evals-json"][0], gates, history="eval_error", judge_at=JudgeAt.BEST)
    assert assessment.last_checkpoint == "round 12"
    assert assessment.values[0] == read(FILES["evals-json"][0])["eval"]["error"][12]


def test_lm_eval_metric_is_task_and_name() -> None:
    """Standard errors and sample sizes are none."""
    model = model_of("lm-eval", FILES["lm-eval"][0])
    assert model["metrics"] == {"toy_choice/acc": [0.4], "toy_choice/acc_norm": [0.4]}


def test_keras_checkpoint_counts_from_one() -> None:
    """The log counts from 0."""
    file = FILES["keras"][0]
    model = model_of("keras", file)
    assert model["checkpoints"][0] == "epoch 1"
    assert model["metrics"]["val_loss"] == [float(row["val_loss"]) for row in table(file)]
    assert model["metrics"] == model_of("keras-history", FILES["keras-history"][0])["metrics"]


def test_keras_epoch_of_a_restart_counts_once() -> None:
    """append=True writes it a second time."""
    data = b"epoch,loss\n0,0.9\n1,0.8\n1,0.7\n2,0.6\n"
    made = translate(Order(presets()["keras"], "/a/run/training.log"), data)
    assert isinstance(made, bytes)
    assert json.loads(made)["models"][0]["metrics"]["loss"] == [0.9, 0.7, 0.6]


ULTRALYTICS_HEADER = b"  epoch,  val/box_loss\n"
RAY_ROW = '{{"training_iteration": {}, "val_loss": {}, "checkpoint_dir_name": null, "done": true}}\n'


def log_of(name: str, rows: Sequence[tuple[int, float]]) -> tuple[str, bytes]:
    """A trainer's log with these steps and losses, and where it lies."""
    lines = "".join(f"{step},{loss}\n" for step, loss in rows).encode()
    if name == "keras":
        return "/a/run/training.log", b"epoch,val_loss\n" + lines
    if name == "lightning":
        return "/a/lightning_logs/run/metrics.csv", (
            "epoch,step,train_loss,val_loss\n" + "".join(f"0,{step},0.5,\n0,{step},,{loss}\n" for step, loss in rows)
        ).encode()
    if name == "ultralytics":
        files = {"results.csv": ULTRALYTICS_HEADER + lines, "args.yaml": b"epochs: 9\n"}
        return "/a/run/results.csv", bundle(files)
    return "/a/e/run/result.json", "".join(RAY_ROW.format(step, loss) for step, loss in rows).encode()


@pytest.mark.parametrize(
    ("rows", "losses"),
    [
        ([(1, 0.9), (2, 0.1), (3, 0.2), (1, 0.8), (2, 0.7)], [0.8, 0.7]),  # two trainings
        ([(1, 0.9), (2, 0.1), (3, 0.2), (2, 0.8)], [0.9, 0.8]),  # restored from the first step, and not so far yet
        ([(1, 0.9), (2, 0.1), (2, 0.8), (3, 0.7)], [0.9, 0.8, 0.7]),  # one step twice
        ([(2, 0.9), (4, 0.1), (6, 0.2), (1, 0.8), (3, 0.7)], [0.8, 0.7]),  # at other steps
    ],
)
@pytest.mark.parametrize("name", ["keras", "lightning", "ultralytics", "ray"])
def test_what_a_training_began_anew_left_behind_is_not_judged(
    name: str, rows: Sequence[tuple[int, float]], losses: Sequence[float]
) -> None:
    """A log that is appended to holds points of models that are gone: the last row's training counts alone."""
    path, data = log_of(name, rows)
    made = translate(Order(presets()[name], path, Wish(history="val_loss")), data)
    assert isinstance(made, bytes)
    metrics = json.loads(made)["models"][0]["metrics"]
    assert metrics["val/box_loss" if name == "ultralytics" else "val_loss"] == losses


def test_header_in_the_middle_of_a_log_is_no_point() -> None:
    """Two logs were joined: the second counts."""
    data = b"epoch,loss\n0,0.9\n1,0.1\nepoch,loss\n0,0.8\n"
    made = translate(Order(presets()["keras"], "/a/run/training.log"), data)
    assert isinstance(made, bytes)
    [model] = json.loads(made)["models"]
    assert (model["metrics"], model["checkpoints"]) == ({"loss": [0.8]}, ["epoch 1"])


def test_lightning_test_in_a_process_of_its_own_stands_beside_the_course() -> None:
    """Its row is of step 0, and no training began."""
    data = b"epoch,step,test_acc,val_loss\n0,9,,0.4\n1,19,,0.2\n0,0,0.9,\n"
    made = translate(Order(presets()["lightning"], "/a/lightning_logs/run/metrics.csv"), data)
    assert isinstance(made, bytes)
    assert json.loads(made)["models"][0]["metrics"] == {"test_acc": 0.9, "val_loss": [0.4, 0.2]}


def test_ultralytics_that_counts_its_rows_from_0_names_the_same_weights(tmp_path: Path) -> None:
    """As versions before 8.1 do: then the row of epoch 2 is weights/epoch2.pt, and the last of three."""
    path = str(tmp_path / "results.csv")
    data = bundle({"results.csv": ULTRALYTICS_HEADER + b"0,0.9\n1,0.8\n2,0.7\n", "args.yaml": b"epochs: 3\n"})
    made = translate(Order(presets()["ultralytics"], path, Wish(if_complete=True)), data)
    assert isinstance(made, bytes)
    assert json.loads(made)["models"][0]["checkpoints"] == ["epoch0", "epoch1", "epoch2"]


def test_catboost_log_that_is_whole_json_is_not_final() -> None:
    """It parses after each iteration; five of thirty are no run."""
    assert not is_final("catboost", (TRAINERS / "catboost/traps/while_training_5_of_30.json").read_bytes())
    file = FILES["catboost"][0]
    assert is_final("catboost", (TRAINERS / file).read_bytes())
    document = read(file)
    at = [each["name"] for each in document["meta"]["test_metrics"]].index("AUC")
    model = model_of("catboost", file)
    assert model["metrics"]["test_AUC"] == [each["test"][at] for each in document["iterations"]]
    assert "learn_AUC" not in model["metrics"]


def test_catboost_that_writes_some_iterations_is_final_with_the_last(tmp_path: Path) -> None:
    """metric_period: each tenth is written, and the last."""
    document = read(FILES["catboost"][0])
    document["iterations"] = [each for each in document["iterations"] if each["iteration"] in {*range(0, 60, 10), 59}]
    rows = ",\n".join(map(json.dumps, document["iterations"]))
    path = tmp_path / "catboost_training.json"
    path.write_text(f'{{\n"meta":{json.dumps(document["meta"])},\n"iterations":[\n{rows}\n]}}')
    assert is_final("catboost", path.read_bytes())
    assert is_worth_reading("catboost", path)
    document["iterations"].pop()
    assert not is_final("catboost", json.dumps(document).encode())
    document["iterations"].clear()
    assert not is_final("catboost", json.dumps(document).encode())


def test_optuna_has_complete_trials_alone() -> None:
    """Pruned and failed ones are no models; the best is by the study's direction."""
    trials = read(FILES["optuna-trials"][0])
    complete = [trial for trial in trials if trial["state"] == "COMPLETE"]
    assert 0 < len(complete) < len(trials)
    names = [f"trial-{trial['number']}" for trial in complete]
    for name in ("optuna", "optuna-trials"):
        assert [model["symbol"] for model in made_of(name, FILES[name][0])["models"]] == names
    best = max(complete, key=lambda trial: float(trial["value"]))
    assert model_of("optuna", FILES["optuna"][0], BEST)["symbol"] == f"trial-{best['number']}"


def test_optuna_study_with_a_running_trial_is_not_complete() -> None:
    """It goes on."""
    data = (TRAINERS / FILES["optuna"][0]).read_bytes()
    assert is_final("optuna", data)
    assert not is_final("optuna", data + b'{"op_code": 4, "study_id": 0, "datetime_start": "2026-11-23T23:55:11"}\n')


def optuna_made(*records: dict[str, Any]) -> Any:
    """The summary of a journal, if the study is complete."""
    data = "".join(json.dumps(each) + "\n" for each in records).encode()
    made = translate(Order(presets()["optuna"], "/a/journal.log", Wish(if_complete=True)), data)
    return json.loads(made) if isinstance(made, bytes) else made


def test_optuna_trial_that_was_added_is_judged_as_it_came() -> None:
    """study.add_trial writes its state and figures at once: nobody waits for it to end."""
    study = {"op_code": 0, "study_name": "s", "directions": [2]}
    added: dict[str, Any] = {
        "op_code": 4,
        "study_id": 0,
        "state": 1,
        "value": 0.97,
        "values": None,
        "user_attrs": {"dd": 0.04},
    }
    several: dict[str, Any] = {
        "op_code": 4,
        "study_id": 0,
        "state": 1,
        "value": None,
        "values": [0.9],
        "intermediate_values": {},
    }
    points: dict[str, Any] = {
        "intermediate_values": {"10": 0.97, "2": 0.1},
        "datetime_complete": "2026-11-30T13:38:09.815268+00:00",
    }
    made = optuna_made(study, {**added, **points}, several)
    assert [each["metrics"] for each in made["models"]] == [
        {"value": 0.97, "intermediate": [0.1, 0.97], "dd": 0.04},
        {"value": [0.9]},
    ]
    assert made["models"][0]["checkpoints"] == ["step 2", "step 10"]
    assert optuna_made(study, added, {"op_code": 4, "study_id": 0, "state": 4}) == NotFinal()  # enqueued


def test_optuna_study_that_was_deleted_does_not_count() -> None:
    """Nor is one that is loaded again another."""
    study = {"op_code": 0, "study_name": "s", "directions": [2]}
    trials = [{"op_code": 4, "study_id": each, "state": 1, "value": 0.1 * each} for each in (0, 1)]
    deleted = {"op_code": 1, "study_id": 0}
    assert optuna_made(study, trials[0], study, trials[0])["models"][1]["metrics"] == {"value": [0.0]}
    made = optuna_made(study, trials[0], deleted, study, trials[1])
    assert [each["metrics"] for each in made["models"]] == [{"value": [0.1]}]


def test_optuna_best_of_several_objectives_is_not_guessed() -> None:
    """There is none; a policy may have one."""
    with pytest.raises(RejectSummary, match='models = "best", and no model is said to be it'):
        model_of("optuna", "optuna/dev/study_1/journal_multi.log", BEST)


@pytest.mark.parametrize(
    ("name", "file", "size"),
    [
        ("backtesting", "backtestingpy/dev/seed1/stats.json", 0.201491117347),
        ("vectorbt", "vectorbt/dev/seed1/stats_one.json", 0.261690166509),
        ("quantstats", "quantstats/dev/seed1/metrics.json", 0.24),
        ("bt", "bt/dev/seed1/stats.json", 0.1748138998),
    ],
)
def test_drawdown_is_the_size_of_the_fall_as_a_fraction(name: str, file: str, size: float) -> None:
    """-20.1 percent, 26 percent, -0.24, -0.17: whichever way it is written."""
    [*_, model] = made_of(name, file)["models"] if name != "bt" else made_of(name, file)["models"][:1]
    assert model["metrics"]["max_drawdown"] == [pytest.approx(size)]


@pytest.mark.parametrize(
    ("name", "document", "words"),
    [
        ("backtesting", {"Max. Drawdown [%]": 20.1}, "the drawdown is not negative"),
        ("backtesting", {"Max. Drawdown [%]": -2010.0}, "20.1 is outside 0..1"),
        ("vectorbt", {"Start Value": 1, "Max Drawdown [%]": -26.0}, "-0.26 is outside 0..1"),
        ("quantstats", {"Strategy": {"Max Drawdown": -20.1}}, "20.1 is outside 0..1"),
        ("bt", {"a": {"max_drawdown": 0.17}}, "the drawdown is not negative"),
        ("keras-history", {"val_accuracy": [92.0]}, "92.0 is outside 0..1"),
        ("evals-json", {"eval": {"logloss": [-0.3]}}, "-0.3 is outside 0.."),
    ],
)
def test_figure_in_another_unit_refuses_the_file(name: str, document: Any, words: str) -> None:
    """-20.1 would pass `max_drawdown <= 0.08`: a sign or a unit that the preset does not read is no figure."""
    with pytest.raises(RejectSummary) as error:
        translate(Order(presets()[name], "/a/run/stats.json"), json.dumps(document).encode())
    assert words in str(error.value)


@pytest.mark.parametrize("number", [1, 2])
def test_backtest_without_trades_has_no_profit_factor(number: int) -> None:
    """All is null but a drawdown of 0, which alone approves nothing."""
    file = f"backtestingpy/traps/no_trades_{number}.json"
    gates = {"profit_factor": ("higher", 1.8, 1.3), "max_drawdown": ("lower", 0.08, 0.15)}
    assert judged("backtesting", file, gates).classification == "DROP"


def test_quantstats_benchmark_is_no_model() -> None:
    """It stands beside the strategy."""
    assert [each["symbol"] for each in made_of("quantstats", FILES["quantstats"][0])["models"]] == ["Strategy"]


def test_sklearn_best_has_rank_one() -> None:
    """In both layouts; with several scorers there is no one rank."""
    rows = read("sklearn/dev/seed1/cv_results_pandas.json")
    for row in rows:
        for name in [each for each in row if each.startswith("rank_test_") and each != "rank_test_accuracy"]:
            del row[name]
    data = json.dumps(rows).encode()
    made = translate(Order(presets()["sklearn"], "/a/run/cv_results.json", BEST), data)
    assert isinstance(made, bytes)
    best = next(at for at, row in enumerate(rows) if row["rank_test_accuracy"] == 1)
    assert [each["symbol"] for each in json.loads(made)["models"]] == [f"candidate-{best}"]


def test_dvclive_courses_are_read_with_the_last_figures() -> None:
    """One file a metric; what was logged once is no course."""
    file = FILES["dvclive"][0]
    model = model_of("dvclive", file)
    assert len(model["metrics"]["val/loss"]) == 12
    assert model["metrics"]["val/loss"][-1] == read(file)["val"]["loss"]
    assert model["metrics"]["test/auc"] == 0.93


def test_mlflow_nan_and_infinity_are_words_and_not_figures() -> None:
    """`nan` and `inf` in the files of the store; a run that did not finish is none."""
    file = FILES["mlflow"][0]
    model = model_of("mlflow", file)
    assert math.isnan(model["metrics"]["diverged"])
    assert model["metrics"]["profit_factor"] == math.inf
    assert len(model["metrics"]["val_loss"]) == 12
    format_ = presets()["mlflow"]
    running = bytes_of(format_, TRAINERS / file).replace(b"status: 3", b"status: 4")
    with pytest.raises(RejectSummary, match="CRC"):  # a member's sum of its bytes
        is_final("mlflow", running)


def test_nan_beside_a_course_is_the_last_points() -> None:
    """test_loss is measured once, at the end: NaN there is no matter of the first point."""
    data = b"epoch,step,val_loss,test_loss\n0,4,0.5,\n1,9,0.4,\n1,9,,nan\n"
    made = translate(Order(presets()["lightning"], "/a/logs/version_0/metrics.csv"), data)
    assert isinstance(made, bytes)
    assert json.loads(made)["models"][0]["metrics"][DIVERGED] == [None, 1.0]


def test_ray_pattern_takes_no_other_json() -> None:
    """params.json and the experiment's state lie beside."""
    assert not presets()["ray"].takes(f"/{RAY}/params.json")


@pytest.mark.parametrize(
    ("name", "file", "keys"),
    [
        ("hf-trainer", "hf-trainer/dev/bert/checkpoint-150/trainer_state.json", ["max_steps"]),
        ("hf-trainer-state", "hf-trainer/dev/bert/checkpoint-150/trainer_state.json", ["max_steps"]),
        ("hf-trainer", "hf-trainer/dev/bert/checkpoint-150/trainer_state.json", ["global_step"]),
        ("catboost", "catboost/traps/while_training_5_of_30.json", ["meta", "iteration_count"]),
    ],
)
def test_file_that_does_not_say_its_end_is_not_final(name: str, file: str, keys: list[str]) -> None:
    """Another version's, without the key or with null: in jq any number is more than null, and nothing is ended."""
    document = json.loads((TRAINERS / file).read_bytes())
    *above, last = keys
    inner = document
    for key in above:
        inner = inner[key]
    inner[last] = None
    assert not is_final(name, json.dumps(document).encode())
    del inner[last]
    assert not is_final(name, json.dumps(document).encode())


PAGE = Path(__file__).parents[2] / "daemon" / "formats.md"
TOLD = re.findall(
    r"^\| `(\S+)` \| `(\S+)` \| `(higher|lower)` \| .* \| (.*) \| .* \|$", PAGE.read_text("utf-8"), re.MULTILINE
)


def test_page_tells_of_every_preset() -> None:
    """Set this, get that: one line each, and none of what is not there."""
    assert sorted(name for name, *_ in TOLD) == sorted(presets())


@pytest.mark.parametrize(("name", "metric", "better", "checkpoint"), TOLD, ids=[name for name, *_ in TOLD])
def test_page_tells_what_its_real_file_holds(name: str, metric: str, better: str, checkpoint: str) -> None:
    """The metric is there, improves as the format knows it, and a checkpoint is called so."""
    models = [model for file in FILES[name] for model in made_of(name, file)["models"]]
    wanted = re.compile(re.escape(metric).replace("TASK", ".*"))
    assert any(wanted.fullmatch(each) for model in models for each in model["metrics"])
    rule = presets()[name].rule_of(metric)
    assert rule is None or rule.better in {None, better}
    shown = {str(each) for model in models for each in model.get("checkpoints", ())}
    assert (not checkpoint and not shown) or checkpoint.partition(" (")[0] in shown
