"""Trainers' own files, all the way: a daemon watches while they are written, judges at the end, and once."""

import hashlib
import json
import os
import re
import shutil
import zipfile
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from modelwarden.service.trainings import MOST_ASKED
from processes import Site, drop, index_of, make_site, modelwarden, next_tick, running_daemon, until
from summaries import GOOD, encoded, flat_summary
from trainers import FILES, TRAINERS

POLICY = """
[[policy]]
name = "any"
history = "{metric}"
[[policy.gate]]
metric = "{metric}"
better = "{better}"
approve = {bound}
review = {bound}
"""
TOLD = """
[[notify.destination]]
name = "file"
kind = "file"
path = "told.jsonl"
on = ["APPROVED", "REVIEW", "DROP", "REJECTED"]
"""
RAY = FILES["ray"][0]
EVALS = FILES["evals-json"][0]
QUIET = 3  # seconds


def site_of(
    folder: Path, name: str, metric: str, *more: str, better: str = "lower", tables: Sequence[str] = ()
) -> Site:
    """A folder with a format, and a policy that approves whatever its one metric is."""
    lines = ["[[watch]]", 'path = "out"', f'format = "{name}"', 'policy = "any"', *more, ""]
    policy = POLICY.format(metric=metric, better=better, bound="1e9" if better == "lower" else "-1e9")
    return make_site(folder, policy, TOLD, *tables, watch="\n".join(lines))


def daemon(site: Site) -> Any:
    """A daemon of the site."""
    return running_daemon("--config", site.config, log=site.folder / "log", cwd=site.folder)


def runs(site: Site) -> Sequence[dict[str, Any]]:
    """The runs, oldest first."""
    found: Sequence[dict[str, Any]] = index_of(site.archive) if (site.archive / "index.json").exists() else []
    return found


def record(site: Site, run: str) -> dict[str, Any]:
    """What a run says of itself."""
    document: dict[str, Any] = json.loads((site.archive / run / "model_assessments.json").read_text(encoding="utf-8"))
    return document


def is_whole(site: Site) -> None:
    """Nothing is amiss, also after all that is derived was made again."""
    for words in (["verify"], ["reindex"], ["verify"]):
        done = modelwarden(*words, "--config", site.config, cwd=site.folder)
        assert done.returncode == 0, done.stdout + done.stderr


def test_log_that_grows_is_one_run_at_its_end(tmp_path: Path) -> None:
    """No run before the last row says done; the trainer's bytes are archived beside what was read of them."""
    site = site_of(tmp_path, "ray", "val_loss")
    source = TRAINERS / RAY
    target = site.out / source.parent.name / "result.json"
    target.parent.mkdir()
    with daemon(site) as running:
        *rows, last = source.read_bytes().splitlines(keepends=True)
        for row in rows:
            with target.open("ab") as stream:
                stream.write(row[: len(row) // 2])
                stream.flush()
                stream.write(row[len(row) // 2 :])
            next_tick(target.parent)
        with target.open("ab") as stream:
            stream.write(last)
        running.wait_for("run_archived")
        running.stop()
    [run] = runs(site)
    folder = site.archive / run["timestamp"]
    assert (folder / "result.json").read_bytes() == source.read_bytes()
    assert run["sha256"] == hashlib.sha256(source.read_bytes()).hexdigest()
    document = record(site, run["timestamp"])
    assert (document["format"], document["original"]) == ("ray", "result.json")
    [model] = document["models"]
    assert model["symbol"] == source.parent.name
    assert model["metrics"]["val_loss"]["value"] == json.loads(last)["val_loss"]
    assert model["points"] == len(rows) + 1
    is_whole(site)


def test_file_written_again_supersedes_its_run(tmp_path: Path) -> None:
    """A new run that names the one before: in its record, its report, the history."""
    site = site_of(tmp_path, "evals-json", "eval_logloss")
    target = site.out / "xgb_evals_result.json"
    with daemon(site) as running:
        shutil.copy(TRAINERS / EVALS, target)
        running.wait_for("run_archived")
        document = json.loads(target.read_text(encoding="utf-8"))
        document["eval"]["logloss"][-1] = 0.5
        target.write_text(json.dumps(document), encoding="utf-8")
        running.wait_for("run_archived", 2)
        running.stop()
    first, second = (event["run"] for event in running.events("run_archived"))
    assert "supersedes" not in record(site, first)
    assert record(site, second)["supersedes"] == first
    assert f"supersedes run {first}" in (site.archive / second / "recommendations.md").read_text(encoding="utf-8")
    symbol = record(site, second)["models"][0]["symbol"]
    done = modelwarden("history", symbol, "--config", site.config, cwd=site.folder)
    assert f"{first} was superseded by {second}" in done.stdout
    done = modelwarden("show", second, "--config", site.config, cwd=site.folder)
    assert f"supersedes {first}" in done.stdout
    is_whole(site)


def test_file_rewritten_at_each_step_is_judged_when_it_is_quiet(tmp_path: Path) -> None:
    """It is whole after each; the last one counts."""
    site = site_of(tmp_path, "keras-history", "val_loss", f'final = "quiet:{QUIET}s"')
    target = site.out / "history.json"
    document = json.loads((TRAINERS / FILES["keras-history"][0]).read_text(encoding="utf-8"))
    with daemon(site) as running:
        for points in range(1, len(document["val_loss"]) + 1):
            target.write_text(json.dumps({name: each[:points] for name, each in document.items()}), encoding="utf-8")
            next_tick(site.out)
        [archived] = running.wait_for("run_archived")
        running.stop()
    [run] = runs(site)
    assert record(site, run["timestamp"])["models"][0]["points"] == len(document["val_loss"])
    assert datetime.fromisoformat(archived["timestamp"]).timestamp() - target.stat().st_mtime >= QUIET


def test_file_with_a_marker_is_judged_when_the_marker_is_there(tmp_path: Path) -> None:
    """One of an earlier run, older than the file, says nothing."""
    site = site_of(tmp_path, "sb3", "mean_reward", 'final = "marker:final_model.zip"', better="higher")
    marker = site.out / "final_model.zip"
    marker.write_bytes(b"old")
    os.utime(marker, (1.0, 1.0))
    with daemon(site) as running:
        shutil.copy(TRAINERS / FILES["sb3"][0], site.out / "evaluations.npz")
        with pytest.raises(AssertionError, match="not within"):
            running.wait_for("run_archived", seconds=1.5)
        marker.write_bytes(b"new")
        running.wait_for("run_archived")
        running.stop()
    [run] = runs(site)
    assert record(site, run["timestamp"])["models"][0]["metrics"]["mean_reward"]["value"] == 500.0


def test_files_of_one_run_are_archived_together(tmp_path: Path) -> None:
    """The table is final by what stands in the YAML beside it."""
    site = site_of(tmp_path, "ultralytics", "val/box_loss")
    source = (TRAINERS / FILES["ultralytics"][0]).parent
    with daemon(site) as running:
        (site.out / "train" / "weights").mkdir(parents=True)
        shutil.copy(source / "args.yaml", site.out / "train")
        rows = (source / "results.csv").read_bytes().splitlines(keepends=True)
        for row in rows:
            with (site.out / "train" / "results.csv").open("ab") as stream:
                stream.write(row)
            next_tick(site.out / "train")
        running.wait_for("run_archived")
        running.stop()
    [run] = runs(site)
    names = sorted(each.name for each in (site.archive / run["timestamp"]).iterdir())
    assert names == ["model_assessments.json", "recommendations.md", "results.csv.zip", "summary.json"]
    is_whole(site)


def test_table_that_stops_short_of_its_last_epoch_is_judged_when_it_is_quiet(tmp_path: Path) -> None:
    """Early stopping: no row is the last, and nothing is judged while rows come."""
    site = site_of(tmp_path, "ultralytics", "val/box_loss", f'final = ["complete", "quiet:{QUIET}s"]')
    source = (TRAINERS / FILES["ultralytics"][0]).parent
    args = (source / "args.yaml").read_text(encoding="utf-8")
    (site.out / "train").mkdir()
    (site.out / "train" / "args.yaml").write_text(args.replace("epochs: 4", "epochs: 400"), encoding="utf-8")
    table = site.out / "train" / "results.csv"
    rows = (source / "results.csv").read_bytes().splitlines(keepends=True)
    with daemon(site) as running:
        for row in rows:
            with table.open("ab") as stream:
                stream.write(row)
            next_tick(site.out / "train")
        [archived] = running.wait_for("run_archived")
        running.stop()
    [run] = runs(site)
    assert record(site, run["timestamp"])["models"][0]["points"] == len(rows) - 1
    assert datetime.fromisoformat(archived["timestamp"]).timestamp() - table.stat().st_mtime >= QUIET
    is_whole(site)


def test_document_that_is_whole_after_each_row_is_one_run_at_its_last(tmp_path: Path) -> None:
    """CatBoost writes each row over the brackets behind the one before."""
    site = site_of(tmp_path, "catboost", "test_Logloss", 'final = "complete"')
    source = TRAINERS / FILES["catboost"][0]
    head, *rows, tail = re.split(rb",?\n(?=\{\"learn\"|\]\})", source.read_bytes())
    target = site.out / "run" / "catboost_info" / source.name
    target.parent.mkdir(parents=True)
    target.write_bytes(head + b"\n" + tail)
    with daemon(site) as running:
        for number, row in enumerate(rows):
            with target.open("r+b") as stream:
                stream.seek(-3, os.SEEK_END)
                stream.write(b"," * (number > 0) + b"\n" + row + b"\n" + tail)
            next_tick(target.parent)
        running.wait_for("run_archived")
        running.stop()
    [run] = runs(site)
    assert target.read_bytes() == source.read_bytes()
    assert run["sha256"] == hashlib.sha256(source.read_bytes()).hexdigest()
    assert record(site, run["timestamp"])["models"][0]["points"] == len(rows)
    is_whole(site)


def test_state_in_each_checkpoint_is_one_run(tmp_path: Path) -> None:
    """Only the last one's says that the training ended; its folder alone is named that is there."""
    site = site_of(tmp_path, "hf-trainer", "eval_loss")
    early = TRAINERS / "hf-trainer/traps/early_stopping/checkpoint-50/trainer_state.json"
    going = TRAINERS / "hf-trainer/dev/bert/checkpoint-150/trainer_state.json"
    with daemon(site) as running:
        for step, source in ((40, going), (50, early)):
            (site.out / "run" / f"checkpoint-{step}").mkdir(parents=True)
            shutil.copy(source, site.out / "run" / f"checkpoint-{step}")
        shutil.copy(early, site.out / "run")  # save_state() in the root: the same once more
        running.wait_for("run_archived")
        running.stop()
    [run] = runs(site)
    summary = json.loads((site.archive / run["timestamp"] / "summary.json").read_text(encoding="utf-8"))
    assert summary["models"][0]["checkpoints"] == [None, None, None, "checkpoint-40", "checkpoint-50"]


def test_program_that_fails_costs_its_file_alone(tmp_path: Path) -> None:
    """The other is archived; the reason says what the program says."""
    program = "if .bad then error(.bad) else {models: [{symbol: stem, metrics: {x: .x}}]} end"
    table = f"[[format]]\nname = 'own'\nfiles = ['*.json']\nreader = 'json'\nprogram = '{program}'\n"
    site = site_of(tmp_path, "own", "x", tables=[table])
    with daemon(site) as running:
        (site.out / "bad.json").write_text('{"bad": "not today"}')
        (site.out / "good.json").write_text('{"x": 1}')
        running.wait_for("run_archived")
        [rejected] = running.wait_for("summary_rejected")
        running.stop()
    assert "the format's program says: not today" in rejected["reason"]
    assert [run["run_name"] for run in runs(site)] == [None]


def test_file_of_a_trainer_without_a_format_says_which_to_set(tmp_path: Path) -> None:
    """It is rejected as before, and its owner learns what to do."""
    site = make_site(tmp_path)
    with daemon(site) as running:
        shutil.copy(TRAINERS / FILES["hf-trainer-state"][0], site.out)
        [rejected] = running.wait_for("summary_rejected")
        running.stop()
    assert 'set format = "hf-trainer" in its [[watch]]' in rejected["reason"]


def test_file_in_another_unit_is_rejected_with_its_figure(tmp_path: Path) -> None:
    """92 is no accuracy."""
    site = site_of(tmp_path, "keras-history", "val_loss")
    with daemon(site) as running:
        (site.out / "history.json").write_text(json.dumps({"val_loss": [0.1], "val_accuracy": [92.0]}))
        [rejected] = running.wait_for("summary_rejected")
        running.stop()
    assert "92.0 is outside 0..1" in rejected["reason"]


def test_trainers_file_is_never_deleted(tmp_path: Path) -> None:
    """after_archive = "delete" is for summaries: a trainer needs its file to go on."""
    site = site_of(tmp_path, "evals-json", "eval_logloss")
    site.config.write_text(site.config.read_text().replace("[intake]", '[intake]\nafter_archive = "delete"'))
    target = site.out / "xgb_evals_result.json"
    with daemon(site) as running:
        shutil.copy(TRAINERS / EVALS, target)
        running.wait_for("run_archived")
        running.stop()
    with daemon(site) as running:
        running.stop()
    assert target.exists()


def test_training_that_goes_on_is_left_alone_once(tmp_path: Path) -> None:
    """`run --once` ends, and says of no file what nobody knows yet."""
    site = site_of(tmp_path, "ray", "val_loss")
    (site.out / "trial").mkdir()
    rows = (TRAINERS / RAY).read_bytes().splitlines(keepends=True)
    (site.out / "trial" / "result.json").write_bytes(b"".join(rows[:-1]))
    done = modelwarden("run", "--once", "--config", site.config, cwd=site.folder)
    assert done.returncode == 0, done.stderr
    assert runs(site) == []
    assert not (site.archive / "rejected").exists()


def test_trainers_bytes_are_verified(tmp_path: Path) -> None:
    """They are what the run's sha256 is of; without them, or with others, something is wrong."""
    site = site_of(tmp_path, "evals-json", "eval_logloss")
    shutil.copy(TRAINERS / EVALS, site.out / "xgb_evals_result.json")
    assert modelwarden("run", "--once", "--config", site.config, cwd=site.folder).returncode == 0
    [run] = runs(site)
    original = site.archive / run["timestamp"] / "xgb_evals_result.json"
    kept = original.read_bytes()
    for spoil, words in (
        (lambda: original.write_bytes(kept + b" "), "xgb_evals_result.json has sha256"),
        (original.unlink, "has no xgb_evals_result.json"),
    ):
        spoil()
        done = modelwarden("verify", "--config", site.config, cwd=site.folder)
        assert done.returncode == 1
        assert words in done.stdout
    original.write_bytes(kept)
    (original.parent / "summary.json").write_text(
        (original.parent / "summary.json").read_text(encoding="utf-8").replace("0.36", "0.96"), encoding="utf-8"
    )
    done = modelwarden("verify", "--config", site.config, cwd=site.folder)
    assert "model_assessments.json" in done.stdout


def test_file_that_two_tables_of_a_folder_take_is_one_run_of_the_first(tmp_path: Path) -> None:
    """Of those with a format: one without comes after them, wherever it stands. Each table has what is left to it."""
    own = "[[format]]\nname = '{}'\nfiles = ['{}']\nreader = 'json'\nprogram = '{}'\n"
    program = "{models: [{symbol: stem, metrics: {x: .x}}]}"
    formats = (own.format("narrow", "a*.data", program), own.format("wide", "*.data", program))
    watch = '[[watch]]\npath = "out"\nformat = "{}"\npolicy = "any"\n'
    policy = POLICY.format(metric="x", better="higher", bound="0")
    plain = '[[watch]]\npath = "out"\npatterns = ["?*.data", "*.json"]\n'
    site = make_site(tmp_path, policy, *formats, watch=plain + watch.format("narrow") + watch.format("wide"))
    for name in ("a.data", "b.data"):
        (site.out / name).write_text('{"x": 1}' + " " * ord(name[0]))
    drop(encoded(flat_summary({"AAPL": GOOD})), site.out)
    with daemon(site) as running:
        running.wait_for("run_archived", 3)
        running.stop()
    found = [record(site, run["timestamp"]) for run in runs(site)]
    assert {each["models"][0]["symbol"]: each.get("format") for each in found} == {
        "a": "narrow",
        "b": "wide",
        "AAPL": None,
    }


def test_message_says_which_run_is_superseded(tmp_path: Path) -> None:
    """Whoever reads it alone knows that it is no second training."""
    site = site_of(tmp_path, "evals-json", "eval_logloss")
    target = site.out / "xgb_evals_result.json"
    with daemon(site) as running:
        shutil.copy(TRAINERS / EVALS, target)
        running.wait_for("run_archived")
        target.write_bytes(target.read_bytes() + b"\n")
        running.wait_for("run_archived", 2)
        told = site.folder / "told.jsonl"
        until(lambda: told.exists() and told.read_bytes().count(b"\n") >= 2, "both messages")
        running.stop()
    first, second = (json.loads(line)["data"] for line in told.read_text(encoding="utf-8").splitlines()[:2])
    assert "supersedes" not in first
    assert second["supersedes"] == first["run"]


TRIALS = sorted((TRAINERS / "ray-tune/dev/tune_seed1").glob("*/result.json"))
SWEEP = ('group = ".."', 'final = "complete and quiet:2s"')


def leave_trials(site: Site, *sources: Path) -> Path:
    """Trials of one sweep, a folder each; the sweep's folder."""
    sweep = site.out / "sweep"
    for source in sources:
        (sweep / source.parent.name).mkdir(parents=True)
        shutil.copyfile(source, sweep / source.parent.name / "result.json")
    return sweep


def members(site: Site, run: str) -> dict[str, bytes]:
    """What the ZIP file of a run of several files holds."""
    with zipfile.ZipFile(site.archive / run / record(site, run)["original"]) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_folder_of_trials_is_one_run_and_superseded_by_later_ones(tmp_path: Path) -> None:
    """Every trial is a model of it, every byte is archived, and the ledger knows each file."""
    site = site_of(tmp_path, "ray", "val_loss", *SWEEP)
    *first, last = TRIALS
    with daemon(site) as running:
        sweep = leave_trials(site, *first)
        running.wait_for("run_archived")
        leave_trials(site, last)
        running.wait_for("run_archived", 2)
        running.stop()
    before, after = (event["run"] for event in running.events("run_archived"))
    for run, sources in ((before, first), (after, TRIALS)):
        document = record(site, run)
        assert [model["symbol"] for model in document["models"]] == [each.parent.name for each in sources]
        assert members(site, run) == {f"{each.parent.name}/result.json": each.read_bytes() for each in sources}
        zipped = (site.archive / run / "sweep.zip").read_bytes()
        assert document["sha256"] == hashlib.sha256(zipped).hexdigest()
        assert document["source"]["path"] == str(sweep.resolve())
        assert document["run_name"] == "sweep"
    assert record(site, after)["supersedes"] == before
    with daemon(site) as running:  # nothing is new: no third
        running.wait_for("ready")
        running.stop()
    assert [run["timestamp"] for run in runs(site)] == [before, after]
    is_whole(site)


def test_best_of_a_folder_of_trials_is_judged_alone(tmp_path: Path) -> None:
    """By the policy's history, for no trial knows of the others."""
    site = site_of(tmp_path, "ray", "val_loss", *SWEEP, 'models = "best"')
    leave_trials(site, *TRIALS)
    with daemon(site) as running:
        running.wait_for("run_archived")
        running.stop()
    [run] = runs(site)
    losses = {each.parent.name: json.loads(each.read_bytes().splitlines()[-1])["val_loss"] for each in TRIALS}
    [model] = record(site, run["timestamp"])["models"]
    assert model["symbol"] == min(losses, key=lambda name: losses[name])
    assert len(members(site, run["timestamp"])) == len(TRIALS)


def test_folder_of_trials_waits_for_the_last_of_them(tmp_path: Path) -> None:
    """A trial that goes on, or is newer than the marker, holds up the sweep; a marker lies in the sweep's folder."""
    site = site_of(tmp_path, "ray", "val_loss", 'group = ".."', 'final = "complete and marker:done"')
    *first, last = TRIALS
    with daemon(site) as running:
        sweep = leave_trials(site, *first)
        (sweep / last.parent.name).mkdir()
        (sweep / "done").write_bytes(b"")
        *rows, end = last.read_bytes().splitlines(keepends=True)
        (sweep / last.parent.name / "result.json").write_bytes(b"".join(rows))
        with pytest.raises(AssertionError, match="not within"):
            running.wait_for("run_archived", seconds=2.0)
        with (sweep / last.parent.name / "result.json").open("ab") as stream:
            stream.write(end)
        next_tick(sweep)
        (sweep / "done").write_bytes(b"again")
        running.wait_for("run_archived")
        running.stop()
    [run] = runs(site)
    assert len(members(site, run["timestamp"])) == len(TRIALS)


def test_trial_that_can_not_be_read_refuses_its_folder_by_name(tmp_path: Path) -> None:
    """Half a sweep is never judged as the whole; who leaves the trial out by a pattern has the rest."""
    site = site_of(tmp_path, "ray", "val_loss", *SWEEP)
    leave_trials(site, *TRIALS)
    (site.out / "sweep" / "bad").mkdir()
    (site.out / "sweep" / "bad" / "result.json").write_text('{"done": true, "done": false}\n{"done": true}\n')
    with daemon(site) as running:
        [rejected] = running.wait_for("summary_rejected")
        running.stop()
    assert rejected["reason"].startswith('bad/result.json: the key "done" stands twice')
    assert runs(site) == []
    site.config.write_text(
        site.config.read_text().replace('group = ".."', 'group = ".."\npatterns = ["result.json", "!bad/result.json"]')
    )
    with daemon(site) as running:
        (site.out / "sweep" / TRIALS[0].parent.name / "result.json").touch()
        running.wait_for("run_archived")
        running.stop()
    [run] = runs(site)
    assert len(members(site, run["timestamp"])) == len(TRIALS)


def test_files_of_one_folder_whose_models_have_one_name_are_told_apart(tmp_path: Path) -> None:
    """By the files' names: a program may know no better than the folder's."""
    site = site_of(tmp_path, "keras", "val_loss", 'group = "."', 'final = "quiet:2s"', 'patterns = ["*.log"]')
    for name in ("a", "b"):
        (site.out / f"{name}.log").write_bytes((TRAINERS / FILES["keras"][0]).read_bytes() + b"\n" * (name == "b"))
    (site.out / "c.log.tmp").write_bytes(b"half")
    (site.out / "link.log").symlink_to(site.out / "a.log")
    with daemon(site) as running:
        running.wait_for("run_archived")
        running.stop()
    [run] = runs(site)
    assert [model["symbol"] for model in record(site, run["timestamp"])["models"]] == ["a", "b"]
    assert set(members(site, run["timestamp"])) == {"a.log", "b.log"}


def test_summaries_and_hints_do_not_wait_for_a_file_that_takes_long(tmp_path: Path) -> None:
    """A program that computes for ever: a summary is archived meanwhile, and a stop does not wait for it either."""
    table = "[[format]]\nname = 'own'\nfiles = ['*.json']\nreader = 'json'\nprogram = 'last(range(1e18))'\n"
    plain = '[[watch]]\npath = "plain"\ncreate = true\n'
    site = site_of(tmp_path, "own", "x", tables=[table, plain])
    with daemon(site) as running:
        running.wait_for("ready")
        (site.out / "slow.json").write_text("{}")
        for name in ("a", "b"):
            drop(encoded(flat_summary({"AAPL": GOOD}, run_name=name)), tmp_path / "plain", f"{name}.json")
        running.wait_for("run_archived", 2, seconds=20.0)
        assert running.events("summary_rejected") == []
        assert running.stop(seconds=20.0) == 0
    assert [run["run_name"] for run in runs(site)] == ["a", "b"]
    assert not (site.archive / "rejected").exists()


def test_many_files_are_each_a_run(tmp_path: Path) -> None:
    """More than are asked about at once, by hints and by a scan, among them some that are torn or refused."""
    site = site_of(tmp_path, "evals-json", "eval_logloss")
    data = (TRAINERS / EVALS).read_bytes()
    count = 3 * MOST_ASKED

    def leave(numbers: range) -> None:
        for number in numbers:
            (site.out / f"{number}_evals_result.json").write_bytes(data + b" " * number)

    leave(range(count // 2))
    with daemon(site) as running:
        leave(range(count // 2, count))
        (site.out / "torn_evals_result.json").write_bytes(data[:100])
        (site.out / "bad_evals_result.json").write_bytes(b'{"a": 1, "a": 2}')
        running.wait_for("run_archived", count)
        running.wait_for("summary_rejected", 2)
        running.stop()
    assert len(runs(site)) == count
    is_whole(site)


class Growing(NamedTuple):
    """A log that goes on.

    Attributes:
        metric: that is in it.
        final: when it is final.
        name: of its file.
        row: what is added.
        last: what is added at the end; "" if nothing tells it.
        head: what stands before the rows.
        tail: what stands behind them, and is written over.
    """

    metric: str
    final: str
    name: str
    row: bytes
    last: bytes = b""
    head: bytes = b""
    tail: bytes = b""

    def begin(self, log: Path, size: int) -> None:
        """Write a log of about so many bytes, and give it its name."""
        new = log.with_name("new.tmp")
        new.write_bytes(self.head + self.row * (size // len(self.row)) + self.tail)
        new.rename(log)

    def add(self, log: Path, row: bytes) -> None:
        """Write a row behind the others."""
        with log.open("r+b") as stream:
            stream.seek(-len(self.tail), os.SEEK_END)
            stream.write(row + self.tail)


WIDE: Final = b"x" * 2000
"""Few rows in many bytes: to read all of them takes no time, and is seen."""

GROWING: Final = {
    "ray": Growing(
        "val_loss",
        "complete",
        "result.json",
        b'{"val_loss": 0.5, "x": "%s", "done": false}\n' % WIDE,
        b'{"val_loss": 0.5, "done": true}\n',
    ),
    "keras": Growing("val_loss", "quiet:1h", "training.log", b"1,0.5,0.5\n"),
    "optuna": Growing("value", "complete and quiet:1h", "journal.log", b'{"op_code": 9}\n'),
    "ultralytics": Growing(
        "val/box_loss",
        "complete",
        "results.csv",
        b"1,0.5,%s\n" % WIDE,
        b"9,0.5,x\n",
        b"epoch,val/box_loss,x\n",
    ),
    "catboost": Growing(
        "learn_Logloss",
        "complete",
        "catboost_training.json",
        b',\n{"learn":[0.5],"iteration":1,"x":"%s"}' % WIDE,
        b',\n{"learn":[0.5],"iteration":8}',
        b'{\n"meta":{"learn_metrics":[{"name":"Logloss"}],"iteration_count":9},\n"iterations":[\n{"learn":[0.5]}',
        b"\n]}",
    ),
}


@pytest.mark.parametrize("name", GROWING)
def test_log_that_grows_costs_what_is_added(name: str, tmp_path: Path) -> None:
    """By the kernel's own count of what the daemon reads: a log that grows fifty times is read once, when it ended."""
    plain = '[[watch]]\npath = "plain"\ncreate = true\n'
    growing = GROWING[name]
    site = site_of(tmp_path, name, growing.metric, f'final = "{growing.final}"', tables=[plain])
    # What stands still for a moment is read, if it is read at all.
    site.config.write_text(site.config.read_text().replace("settle_seconds = 0.2", "settle_seconds = 0.001"))
    (site.out / "args.yaml").write_text("epochs: 9\ntime: null\n")
    log, size = site.out / growing.name, 10_000_000
    with daemon(site) as running:
        running.wait_for("ready")
        read = [read_by(running.process.pid)]
        growing.begin(log, size)
        for rows in (1, 50):
            for _ in range(rows):
                growing.add(log, growing.row)
                next_tick(site.out)
            # Hints come in order: once this is archived, all that grew before was looked at.
            drop(encoded(flat_summary({"AAPL": GOOD}, run_name=f"after {rows}")), tmp_path / "plain")
            running.wait_for("run_archived", 1 if rows == 1 else 2)
            read.append(read_by(running.process.pid))
        if growing.last:
            growing.add(log, growing.last)
            running.wait_for("run_archived", 3)
        read.append(read_by(running.process.pid))
        running.stop()
    assert read[2] - read[1] < 1_000_000
    assert read[3] - read[0] < size * (1.5 if growing.last else 0.5)
    assert [run["run_name"] for run in runs(site)][:2] == ["after 1", "after 50"]
    assert len(runs(site)) == (3 if growing.last else 2)


def read_by(pid: int) -> int:
    """The bytes that a process has read so far, by whatever call."""
    return int(Path(f"/proc/{pid}/io").read_text(encoding="ascii").split()[1])


def test_file_that_is_written_while_it_is_asked_about_costs_no_turn_of_the_loop(tmp_path: Path) -> None:
    """Whoever waits for an answer sleeps, whatever hints come meanwhile."""
    table = "[[format]]\nname = 'own'\nfiles = ['*.json']\nreader = 'json'\nprogram = 'last(range(1e18))'\n"
    plain = '[[watch]]\npath = "plain"\ncreate = true\n'
    site = site_of(tmp_path, "own", "x", tables=[table, plain])
    with daemon(site) as running:
        running.wait_for("ready")
        slow = site.out / "slow.json"
        slow.write_text("{}")
        for name in ("a", "b"):
            slow.write_text("{} ")
            drop(encoded(flat_summary({"AAPL": GOOD}, run_name=name)), tmp_path / "plain", f"{name}.json")
            running.wait_for("run_archived", 1 if name == "a" else 2, seconds=20.0)
        before = computed_by(running.process.pid)
        with pytest.raises(AssertionError, match="not within"):
            running.wait_for("summary_rejected", seconds=3.0)
        assert computed_by(running.process.pid) - before < 0.15  # who turns has all that others leave
        running.stop(seconds=20.0)


def computed_by(pid: int) -> float:
    """The seconds of the processor that a process has had so far."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
