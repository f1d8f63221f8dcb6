"""The Python API: the training notes' examples run to the letter, and what is asked is answered from the archive."""

import gc
import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

import modelwarden
from modelwarden import (
    Classification,
    Flag,
    ModelGatingConfig,
    ModelwardenError,
    RejectSummary,
    TrainingArchiveManager,
    UnknownRun,
    assess_model_quality,
)
from modelwarden.archive import publishing
from modelwarden.archive.index import IndexLock
from modelwarden.errors import RetryLater
from modelwarden.gate.gates import Better, Gate
from modelwarden.gate.policy import Policy
from processes import clean_environment, index_of
from summaries import BAD, GOOD, MIDDLING, flat_summary, series_summary

NAME = "20241224_153000"

# The notes' code to the letter but for the package's name; what an example leaves to the reader is handed to `run`.
ARCHIVE_USAGE = """
from modelwarden import TrainingArchiveManager
# Archive training run with automatic gating
archive_mgr = TrainingArchiveManager(archive_dir='training_archives')
archive = archive_mgr.archive_training_run(summary_data)
# Results
print(f"APPROVED: {archive.approved_count}")
print(f"REVIEW: {archive.review_count}")
print(f"DROP: {archive.dropped_count}")
# Get approved models for deployment
approved = archive_mgr.get_approved_models(archive.timestamp)
print(f"Ready for deployment: {approved}")
# Get symbol history across runs
history = archive_mgr.get_symbol_history('AAPL')
"""
GATING_CONFIGURATION = """
from modelwarden import ModelGatingConfig
# Custom thresholds (stricter than v2.4.1 defaults)
config = ModelGatingConfig(
approved_min_fitness=0.80, # Default: 0.70
approved_min_pf=2.0, # Default: 1.8
approved_min_consistency=0.90, # Default: 0.85
approved_max_drawdown=0.05, # Default: 0.08 (5% proxy MaxDD)
)
# Use custom config
classification, flags, use_checkpoint, best_idx = assess_model_quality(
final_fitness=0.75,
final_pf=1.9,
final_consistency=0.88,
final_max_dd=0.06, # 6% proxy MaxDD
fitness_history=[0.70, 0.75, 0.78, 0.75],
config=config,
)
"""
OVERFITTING_DETECTION = """
fitness_decline_threshold = 0.05 # 5% decline from peak
fitness_oscillation_threshold = 0.10 # 10% swing = unstable training
"""


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[TrainingArchiveManager]:
    """A manager of a new archive."""
    with TrainingArchiveManager(tmp_path / "archive") as made:
        yield made


def run(code: str, **names: Any) -> dict[str, Any]:
    """Run an example and return its names."""
    exec(compile(code, "example", "exec"), names)
    return names


def script(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run code as a program of its own, as a trainer's script would be."""
    return subprocess.run(
        [sys.executable, "-P", "-W", "error", "-c", code],
        cwd=folder,
        env=clean_environment(),
        capture_output=True,
        encoding="utf-8",
        check=False,
    )


AAPL_SUMMARY = flat_summary({"AAPL": GOOD, "TSLA": MIDDLING, "GME": BAD, "MSFT": GOOD})


def test_archive_usage_of_the_notes_runs_to_the_letter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Archive, counts, approved models and history; and nothing is printed but what the example prints."""
    monkeypatch.chdir(tmp_path)

    names = run(ARCHIVE_USAGE, summary_data=AAPL_SUMMARY)

    assert capfd.readouterr() == (
        "APPROVED: 2\nREVIEW: 1\nDROP: 1\nReady for deployment: ['AAPL', 'MSFT']\n",
        "",
    )
    assert names["archive"].timestamp == NAME
    assert [(each.timestamp, each.symbol, each.classification) for each in names["history"]] == [
        (NAME, "AAPL", "APPROVED")
    ]
    names["archive_mgr"].close()


def test_archive_structure_of_the_notes_is_what_is_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """index.json, and a folder a run with the raw summary, the gating decisions and the report."""
    monkeypatch.chdir(tmp_path)

    run(ARCHIVE_USAGE, summary_data=AAPL_SUMMARY)["archive_mgr"].close()

    root = tmp_path / "training_archives"
    assert {each.name for each in root.iterdir() if not each.name.startswith(".")} == {"index.json", NAME}
    assert {each.name for each in (root / NAME).iterdir()} == {
        "summary.json",
        "model_assessments.json",
        "recommendations.md",
    }
    assert json.loads((root / NAME / "summary.json").read_text("utf-8")) == AAPL_SUMMARY


def test_gating_configuration_of_the_notes_runs_to_the_letter() -> None:
    """The stricter thresholds leave the model of the example to a person."""
    names = run(GATING_CONFIGURATION, assess_model_quality=assess_model_quality)

    assert [names[name] for name in ("classification", "flags", "use_checkpoint", "best_idx")] == [
        "REVIEW",
        [],
        False,
        2,
    ]


def test_gating_configuration_of_the_notes_with_its_defaults_approves() -> None:
    """The comments of the example give the defaults: with them the same model may be deployed."""
    names = run(GATING_CONFIGURATION.replace("config=config,\n", ""), assess_model_quality=assess_model_quality)

    assert names["classification"] == "APPROVED"
    for field, value in (("fitness", 0.70), ("pf", 1.8), ("consistency", 0.85)):
        assert getattr(ModelGatingConfig(), f"approved_min_{field}") == value
    assert ModelGatingConfig().approved_max_drawdown == 0.08


def test_overfitting_thresholds_of_the_notes_are_the_defaults() -> None:
    """5 % below the peak, 10 % of a swing."""
    names = run(OVERFITTING_DETECTION)

    for name in ("fitness_decline_threshold", "fitness_oscillation_threshold"):
        assert getattr(ModelGatingConfig(), name) == names[name]


def test_checkpoint_of_the_notes_is_the_update_at_the_peak(manager: TrainingArchiveManager) -> None:
    """`checkpoint_update = (best_idx + 1) * validation_interval` where a decline recommends it."""
    model = {**GOOD, "final_fitness": 0.75, "fitness_history": [0.70, 0.75, 0.95, 0.75]}
    manager.archive_training_run(flat_summary({"AAPL": model}, validation_interval=50))

    (assessment,) = manager.get_symbol_history("AAPL")

    assert (assessment.use_checkpoint, assessment.best_idx, assessment.checkpoint_update) == (True, 2, 150)
    assert assessment.flags == (Flag.FITNESS_DECLINE, Flag.UNSTABLE_TRAINING)


def test_examples_of_the_notes_as_a_program_print_the_same_and_no_more(tmp_path: Path) -> None:
    """In a process of its own, with warnings as errors: not a line on standard error."""
    ended = script(f"summary_data = {AAPL_SUMMARY!r}{ARCHIVE_USAGE}", tmp_path)

    assert (ended.returncode, ended.stderr) == (0, "")
    assert len(ended.stdout.splitlines()) == 4


def test_summary_that_is_rejected_is_an_exception_and_nothing_is_printed(tmp_path: Path) -> None:
    """A library says what is wrong to its caller; the terminal belongs to the program."""
    ended = script(
        """
from modelwarden import RejectSummary, TrainingArchiveManager
try:
    TrainingArchiveManager("archive").archive_training_run({"models": []})
except RejectSummary:
    print("rejected")
""",
        tmp_path,
    )

    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "rejected\n", "")


def test_archived_run_says_its_name_its_counts_and_its_folder(tmp_path: Path, manager: TrainingArchiveManager) -> None:
    """All that a script needs to go on."""
    archived = manager.archive_training_run(AAPL_SUMMARY)

    assert (archived.timestamp, archived.approved_count, archived.review_count, archived.dropped_count) == (
        NAME,
        2,
        1,
        1,
    )
    assert archived.path == str(tmp_path / "archive" / NAME)
    assert os.path.isdir(archived.path)


def test_same_summary_again_is_the_run_that_it_is(manager: TrainingArchiveManager) -> None:
    """A script that is run twice archives once and gets the same answer."""
    first = manager.archive_training_run(AAPL_SUMMARY)

    assert manager.archive_training_run(dict(AAPL_SUMMARY)) == first

    assert len(manager.get_symbol_history("AAPL")) == 1


def test_same_summary_again_in_another_process_is_the_run_that_it_is(tmp_path: Path) -> None:
    """The same after the object, and the state directory, are gone."""
    with TrainingArchiveManager(tmp_path / "archive", state_dir=tmp_path / "one") as manager:
        first = manager.archive_training_run(AAPL_SUMMARY)

    with TrainingArchiveManager(tmp_path / "archive", state_dir=tmp_path / "two") as manager:
        assert manager.archive_training_run(AAPL_SUMMARY) == first
        assert manager.get_approved_models(NAME) == ["AAPL", "MSFT"]

    assert len(index_of(tmp_path / "archive")) == 1


def test_summary_of_a_run_deleted_by_hand_is_archived_again(manager: TrainingArchiveManager) -> None:
    """A person deletes a run to archive it anew, while the manager lives."""
    shutil.rmtree(manager.archive_training_run(AAPL_SUMMARY).path)

    archived = manager.archive_training_run(AAPL_SUMMARY)

    assert os.path.isdir(archived.path)


def test_layout_of_lists_is_archived_like_the_flat_one(manager: TrainingArchiveManager) -> None:
    """What the origin's trainer writes: the last point is final, the fitness list is the history."""
    manager.archive_training_run(
        series_summary({"AAPL": [(0.9, 2.5, 0.9, 0.05), (0.75, 1.9, 0.88, 0.06)]}, timestamp=NAME)
    )

    (assessment,) = manager.get_symbol_history("AAPL")

    assert assessment.metrics == {"fitness": 0.75, "profit_factor": 1.9, "consistency": 0.88, "max_drawdown": 0.06}
    assert (assessment.classification, assessment.best_idx, assessment.use_checkpoint) == ("APPROVED", 0, True)


def test_approved_models_are_those_of_that_run_in_the_summary_s_order(manager: TrainingArchiveManager) -> None:
    """Not the alphabet's, and not another run's."""
    manager.archive_training_run(flat_summary({"Z": GOOD, "A": GOOD, "M": BAD}))
    manager.archive_training_run(flat_summary({"Z": BAD}, timestamp="20250101_000000"))

    assert manager.get_approved_models(NAME) == ["Z", "A"]
    assert manager.get_approved_models("20250101_000000") == []


@pytest.mark.parametrize("name", ["20200101_000000", f"{NAME}_2", "", "..", "../archive", "no run", f"{NAME}\n", "\0"])
def test_approved_models_of_an_unknown_run_are_an_error_that_names_it(
    manager: TrainingArchiveManager, name: str
) -> None:
    """An empty list would say that nothing may be deployed; that is another answer."""
    manager.archive_training_run(AAPL_SUMMARY)

    with pytest.raises(UnknownRun) as caught:
        manager.get_approved_models(name)

    assert repr(name) in str(caught.value)
    assert isinstance(caught.value, LookupError)


def test_history_of_a_symbol_is_oldest_first_across_suffixes(manager: TrainingArchiveManager) -> None:
    """`_10` comes after `_9`, whatever the order of archiving."""
    for name in ("20250101_000000", *[NAME] * 11, "20230101_000000"):
        pf = 2.0 + len(manager.get_symbol_history("AAPL"))
        manager.archive_training_run(flat_summary({"AAPL": {**GOOD, "final_pf": pf}}, timestamp=name))

    history = manager.get_symbol_history("AAPL")

    assert [each.timestamp for each in history] == [
        "20230101_000000",
        NAME,
        *(f"{NAME}_{suffix}" for suffix in range(2, 12)),
        "20250101_000000",
    ]
    assert [each.metrics["profit_factor"] for each in history] == [14.0, *(3.0 + number for number in range(11)), 2.0]


def test_history_of_an_unknown_symbol_is_empty(manager: TrainingArchiveManager) -> None:
    """No run has it: no error."""
    manager.archive_training_run(AAPL_SUMMARY)

    assert manager.get_symbol_history("aapl") == []


def test_history_has_all_that_was_decided(manager: TrainingArchiveManager) -> None:
    """Class, flags, figures and sentences, as enums that compare equal to their names."""
    manager.archive_training_run(flat_summary({"AAPL": BAD}))

    (assessment,) = manager.get_symbol_history("AAPL")

    assert assessment.classification is Classification.DROP
    assert assessment.flags == ("LOW_FITNESS", "LOW_PF", "LOW_CONSISTENCY", "HIGH_DRAWDOWN")
    assert len(assessment.reasons) == 4
    assert "profit factor 0.80 < 1.30" in assessment.reasons[1]
    assert (assessment.best_idx, assessment.checkpoint_update, assessment.use_checkpoint) == (None, None, False)


def test_custom_config_judges_the_runs_of_its_manager(tmp_path: Path) -> None:
    """And the archive remembers by which thresholds each run was judged."""
    strict = ModelGatingConfig(approved_min_fitness=0.95)
    with TrainingArchiveManager(tmp_path, config=strict, state_dir=tmp_path / "state") as manager:
        archived = manager.archive_training_run(flat_summary({"AAPL": GOOD}))
        assert (archived.approved_count, archived.review_count) == (0, 1)

    with TrainingArchiveManager(tmp_path, state_dir=tmp_path / "state") as manager:
        manager.archive_training_run(flat_summary({"AAPL": GOOD}, timestamp="20250101_000000"))
        assert [each.classification for each in manager.get_symbol_history("AAPL")] == ["REVIEW", "APPROVED"]

    first, second = index_of(tmp_path)
    assert first["policy"] != second["policy"]


class Scalar:
    """A number as a numeric library has it."""

    def __init__(self, value: float) -> None:
        self._value = value

    def item(self) -> float:
        """The plain number."""
        return self._value


class Array:
    """A list of numbers as a numeric library has it; its `item` is for arrays of one element alone."""

    def __init__(self, *values: float) -> None:
        self._values = values

    def tolist(self) -> list[float]:
        """The plain numbers."""
        return list(self._values)

    def item(self) -> float:
        """Refused, as of any array with more than one element."""
        raise ValueError("can only convert an array of size 1")


def test_numbers_of_a_numeric_library_are_numbers(manager: TrainingArchiveManager) -> None:
    """Scalars and arrays, anywhere in the summary."""
    model = {name: Scalar(value) for name, value in GOOD.items()}
    manager.archive_training_run(flat_summary({"AAPL": {**model, "fitness_history": Array(0.5, 0.95, 0.91)}}))

    (assessment,) = manager.get_symbol_history("AAPL")

    assert assessment.metrics["profit_factor"] == GOOD["final_pf"]
    assert (assessment.classification, assessment.best_idx) == ("APPROVED", 1)


@pytest.mark.parametrize("value", [object(), b"bytes", {1, 2}, lambda: 0])
def test_value_that_json_can_not_hold_is_a_type_error_that_names_its_type(
    tmp_path: Path, manager: TrainingArchiveManager, value: object
) -> None:
    """A mistake in the caller's program, told as one; nothing is archived or kept as rejected."""
    with pytest.raises(TypeError, match=type(value).__name__):
        manager.archive_training_run(flat_summary(extra=value))

    assert index_of(tmp_path / "archive") == []
    assert not (tmp_path / "archive" / "rejected").exists()


@pytest.mark.parametrize("where", ["summary", "models", "figures"])
def test_mapping_that_is_no_dict_is_an_object(manager: TrainingArchiveManager, where: str) -> None:
    """The signature says Mapping: any mapping will do, at any depth."""
    figures: Mapping[str, float] = MappingProxyType(GOOD) if where == "figures" else GOOD
    models: Mapping[str, object] = {"AAPL": figures}
    summary: Mapping[str, object] = {
        "timestamp": NAME,
        "models": MappingProxyType(models) if where == "models" else models,
    }

    manager.archive_training_run(MappingProxyType(summary) if where == "summary" else summary)

    assert manager.get_approved_models(NAME) == ["AAPL"]


@pytest.mark.parametrize(
    ("figures", "classification", "flag"),
    [
        ({"final_fitness": math.nan}, "DROP", Flag.INVALID_METRIC),
        ({"final_fitness": math.inf}, "DROP", Flag.INVALID_METRIC),
        ({"final_pf": math.inf}, "REVIEW", Flag.NO_LOSSES),
        ({"final_max_dd": -0.9}, "DROP", Flag.INVALID_METRIC),
        ({"final_consistency": None}, "DROP", Flag.INVALID_METRIC),
    ],
)
def test_figure_that_is_no_number_is_never_waved_through(
    manager: TrainingArchiveManager, figures: dict[str, float], classification: str, flag: Flag
) -> None:
    """What can't be judged is not deployed, and the archive is written all the same."""
    archived = manager.archive_training_run(flat_summary({"AAPL": {**GOOD, **figures}}))

    (assessment,) = manager.get_symbol_history("AAPL")
    assert (assessment.classification, assessment.flags) == (classification, (flag,))
    assert all(value is None or math.isfinite(value) for value in assessment.metrics.values())
    assert manager.get_approved_models(archived.timestamp) == []


@pytest.mark.parametrize(
    "summary",
    [
        {},
        {"models": []},
        {"models": {}},
        {"models": [{"symbol": "A"}, {"symbol": "A"}]},
        {"models": [{"symbol": "A\nB"}]},
        flat_summary(timestamp="../../outside"),
        flat_summary({"\ud800": GOOD}),
    ],
)
def test_what_is_no_summary_is_refused_with_the_reason(
    tmp_path: Path, manager: TrainingArchiveManager, summary: dict[str, Any]
) -> None:
    """The caller learns why, the archive has no run, and the manager goes on."""
    with pytest.raises(RejectSummary, match=r"."):
        manager.archive_training_run(summary)

    assert index_of(tmp_path / "archive") == []
    assert manager.archive_training_run(AAPL_SUMMARY).timestamp == NAME


def test_text_of_any_language_is_kept_to_the_letter(manager: TrainingArchiveManager) -> None:
    """Emoji and all, in UTF-8, whatever the machine's own encoding is."""
    symbol = "\u00c4\U0001f680\u6771\u4eac"
    archived = manager.archive_training_run(flat_summary({symbol: GOOD}, run_name="\u00fc"))

    assert manager.get_approved_models(NAME) == [symbol]
    assert symbol in Path(archived.path, "summary.json").read_text("utf-8")
    assert symbol in Path(archived.path, "recommendations.md").read_text("utf-8")


def test_archive_locked_for_too_long_is_told(
    tmp_path: Path, manager: TrainingArchiveManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The caller may simply try again: nothing is half done."""
    monkeypatch.setattr(publishing, "LOCK_TIMEOUT", 0.05)
    with IndexLock(str(tmp_path / "archive")).held(1.0), pytest.raises(RetryLater, match=r"\.index\.lock"):
        manager.archive_training_run(AAPL_SUMMARY)

    assert manager.archive_training_run(AAPL_SUMMARY).timestamp == NAME


def test_archive_where_a_file_stands_is_an_error_of_ours_that_names_it(tmp_path: Path) -> None:
    """One except clause catches everything modelwarden itself refuses."""
    (tmp_path / "archive").write_bytes(b"")

    with pytest.raises(ModelwardenError, match="archive"):
        TrainingArchiveManager(tmp_path / "archive")


def test_two_managers_of_one_archive_see_each_other_s_runs(tmp_path: Path, manager: TrainingArchiveManager) -> None:
    """In one process, on one state file: names do not collide, questions are answered by both."""
    with TrainingArchiveManager(tmp_path / "archive") as other:
        first = manager.archive_training_run(flat_summary({"AAPL": GOOD}, run_name="first"))
        second = other.archive_training_run(flat_summary({"AAPL": GOOD}, run_name="second"))

        assert (first.timestamp, second.timestamp) == (NAME, f"{NAME}_2")
        for each in (manager, other):
            assert [assessment.timestamp for assessment in each.get_symbol_history("AAPL")] == [NAME, f"{NAME}_2"]


def test_manager_that_was_closed_leaves_no_staging(tmp_path: Path) -> None:
    """Nothing half-made, nothing locked."""
    with TrainingArchiveManager(tmp_path / "archive") as manager:
        manager.archive_training_run(AAPL_SUMMARY)

    assert list((tmp_path / "archive").glob(".staging/*")) == []


def test_manager_that_nobody_closed_is_no_hindrance_to_the_next(tmp_path: Path) -> None:
    """The notes' example never closes: no warning, no lock, nothing that the next start does not clear."""
    manager = TrainingArchiveManager(tmp_path / "archive")
    manager.archive_training_run(AAPL_SUMMARY)
    del manager
    gc.collect()

    with TrainingArchiveManager(tmp_path / "archive") as following:
        assert following.archive_training_run(AAPL_SUMMARY).timestamp == NAME

    assert list((tmp_path / "archive").glob(".staging/*")) == []


@pytest.mark.parametrize("kind", [str, os.fspath, Path], ids=["text", "fspath", "path"])
def test_archive_may_be_named_by_text_or_path(tmp_path: Path, kind: Any) -> None:
    """Both directories, in any of the ways Python names a file."""
    with TrainingArchiveManager(kind(tmp_path / "archive"), None, kind(tmp_path / "state")) as manager:
        manager.archive_training_run(AAPL_SUMMARY)

    assert (tmp_path / "state" / "modelwarden.sqlite").is_file()
    assert not (tmp_path / "archive" / ".state").exists()


def test_policy_of_other_metrics_judges_and_is_read_back(tmp_path: Path) -> None:
    """Any metric from Python, too: judged, archived, and asked of by its own name."""
    policy = Policy((Gate("eval_loss", 0.35, 0.5, Better.LOWER),), history="eval_loss", name="language models")
    with TrainingArchiveManager(tmp_path, policy=policy) as manager:
        run = manager.archive_training_run({"models": {"base": {"metrics": {"eval_loss": [0.5, 0.3]}}}})
        assert (run.approved_count, manager.get_approved_models()) == (1, ["base"])
        (assessed,) = manager.get_symbol_history("base")
    assert assessed.metrics == {"eval_loss": 0.3}
    with TrainingArchiveManager(tmp_path) as other:
        assert other.get_symbol_history("base")[0].metrics == {"eval_loss": 0.3}


def test_config_and_policy_together_are_refused(tmp_path: Path) -> None:
    """A config makes the default policy: which of the two is meant?"""
    with pytest.raises(TypeError, match="not both"):
        TrainingArchiveManager(tmp_path / "a", ModelGatingConfig(), policy=Policy.from_config())
    assert not (tmp_path / "a").exists()


def test_every_name_of_the_api_can_be_imported() -> None:
    """Each is imported when it is asked for; another name is an error like any module's."""
    for name in modelwarden.__all__:
        assert getattr(modelwarden, name) is not None
    with pytest.raises(AttributeError, match="nonsense"):
        _ = modelwarden.nonsense
