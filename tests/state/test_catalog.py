"""The catalog: made again from the archive it is the same row for row, and it answers in the order of time."""

import math
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelwarden.archive.encoding import encode_assessments
from modelwarden.archive.record import decode_assessments
from modelwarden.gate.assessment import Assessment, Classification
from modelwarden.gate.policy import Policy
from modelwarden.gate.thresholds import ModelGatingConfig
from modelwarden.gate.timestamp import run_key
from modelwarden.gate.what_if import try_policy
from modelwarden.state.cataloguing import WritableCatalog
from modelwarden.state.database import Database
from modelwarden.state.rows import model_rows
from summaries import BAD, GOOD, MIDDLING, flat_summary, judged_run, random_summary, series_summary

NAME = "20241224_153000"
NOW = 1_735_054_300.0  # five minutes later
STRICT = ModelGatingConfig(approved_min_fitness=0.95, approved_min_pf=3.0)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """A new state file."""
    with closing(Database(str(tmp_path), "2024-12-24T15:30:00Z")) as opened:
        yield opened


@pytest.fixture
def catalog(database: Database) -> WritableCatalog:
    """A new catalog."""
    return WritableCatalog(database)


def add(
    database: Database,
    summary: Mapping[str, Any],
    name: str = NAME,
    config: ModelGatingConfig | None = None,
    *,
    announced: bool = True,
) -> list[Assessment]:
    """Add a run to the catalog, in a transaction; return its assessments."""
    run, assessments = judged_run(summary, timestamp=name, config=config)
    with database.transaction():
        WritableCatalog(database).add(run, model_rows(assessments), announced=announced)
    return assessments


def rows(connection: sqlite3.Connection) -> Sequence[Sequence[Any]]:
    """Every row of the catalog's tables."""
    return [
        row
        for table, order in (("runs", "run"), ("assessments", "run, position"), ("policies", "id"))
        for row in connection.execute(f"SELECT * FROM {table} ORDER BY {order}")
    ]


def live_and_rebuilt(
    database: Database, summary: Mapping[str, Any], config: ModelGatingConfig | None = None
) -> tuple[Sequence[Sequence[Any]], Sequence[Sequence[Any]]]:
    """The rows of a run as it is judged, and the rows made from its document; the database stays empty."""
    run, assessments = judged_run(summary, config=config)
    again, decoded = decode_assessments(encode_assessments(run, assessments))
    made = []
    for record, models in ((run, assessments), (again, decoded)):
        database.connection.execute("BEGIN")
        WritableCatalog(database).add(record, model_rows(models), announced=True)
        made.append(rows(database.connection))
        database.connection.execute("ROLLBACK")
    return made[0], made[1]


def one(**figures: Any) -> dict[str, Any]:
    """A summary of one model with these figures instead of good ones."""
    return flat_summary({"A": {**GOOD, **figures}})


CASES: dict[str, dict[str, Any]] = {
    "one of each class": flat_summary(),
    "many models": random_summary(7, models=60),
    "no figures": flat_summary({"A": {"final_pf": None}}),
    "not a number": one(final_fitness=math.nan),
    "no losses": one(final_pf=math.inf),
    "no losses and another not a number": one(final_pf=math.inf, final_consistency=math.nan),
    "infinite where it means nothing": one(final_fitness=math.inf, final_max_dd=math.inf),
    "minus infinity": one(final_pf=-math.inf),
    "all infinite": one(**dict.fromkeys(GOOD, math.inf)),
    "a percentage": one(final_consistency=88.0),
    "a negative drawdown": one(final_max_dd=-0.3),
    "the smallest and the largest": one(final_fitness=5e-324, final_pf=1.7e308),
    "minus zero": one(final_max_dd=-0.0),
    "history with gaps": one(fitness_history=[0.5, math.nan, None, math.inf, 0.95, 0.91]),
    "history of nothing": one(fitness_history=[math.nan, None]),
    "a decline": one(final_fitness=0.8, fitness_history=[0.5, 0.95, 0.8]),
    "a decline beyond floats": one(final_fitness=-1.7e308, fitness_history=[1e-300]),
    "a peak below zero": one(final_fitness=-2.0, fitness_history=[-3.0, -1.0, -2.0]),
    "a checkpoint by number": flat_summary({"A": {**GOOD, "fitness_history": [0.5, 0.9]}}, validation_interval=50),
    "a checkpoint by name": one(fitness_history=[0.5, 0.9], checkpoints=["007", "8e3"]),
    "a symbol of any letters": flat_summary({"\u00e9\U0001f680 'x' \"y\" `z` %s {}": GOOD}),
    "a decline to lists that tell the peak": series_summary(
        {
            "A": [(0.98, 1.1, 0.9, math.nan), (0.9, 2.0, 0.9, 0.05)],
            "B": [(0.98, math.inf, 0.9, 0.02), (0.9, 2.0, 0.9, 0.05)],
        },
        validation_interval=50,
    ),
    "lists that contradict figures": one(
        fitness_history=[0.5, 0.9], metrics={"profit_factor": [1.0], "consistency": [0.9, math.nan]}
    ),
    "another reward scale": flat_summary(reward_scale=0.01),
    "the calibrated reward scale": flat_summary(reward_scale=0.001),
    "a name": flat_summary(run_name="r\u00fcn; DROP TABLE runs"),
}


@pytest.mark.parametrize("summary", CASES.values(), ids=CASES)
@pytest.mark.parametrize("config", [None, STRICT], ids=["default policy", "another policy"])
def test_run_rebuilt_from_its_document_is_the_same_row_for_row(
    database: Database, summary: dict[str, Any], config: ModelGatingConfig | None
) -> None:
    """Losing the state file loses nothing that the catalog can say of a run."""
    live, rebuilt = live_and_rebuilt(database, summary, config)

    assert rebuilt == live


figures = st.floats() | st.none() | st.integers(-2, 2)
models = st.fixed_dictionaries(
    dict.fromkeys(GOOD, figures),
    optional={
        "fitness_history": st.lists(figures, max_size=6),
        "validation_interval": st.integers(1, 10**6),
    },
)


def test_any_run_rebuilt_from_its_document_is_the_same_row_for_row(database: Database) -> None:
    """Whatever figures a trainer writes, NaN and infinities among them."""

    @settings(max_examples=200, deadline=None)
    @given(st.dictionaries(st.sampled_from("ABC"), models, min_size=1))
    def check(summary: dict[str, dict[str, Any]]) -> None:
        live, rebuilt = live_and_rebuilt(database, flat_summary(summary))
        assert rebuilt == live

    check()


def test_run_with_the_longest_training_is_cataloged(database: Database, catalog: WritableCatalog) -> None:
    """The largest checkpoint that a summary can lead to fits the table."""
    history = [number / 2000 for number in range(1100)]

    add(database, flat_summary({"A": {**GOOD, "fitness_history": history}}, validation_interval=10**9))

    (assessment,) = catalog.assessments(NAME)
    assert assessment.checkpoint_update == 1100 * 10**9


COMPARED = (
    "symbol",
    "classification",
    "flags",
    "use_checkpoint",
    "best_idx",
    "checkpoint_update",
    "bands",
    "peak",
    "decline",
    "largest_fall",
    "points",
    "last_checkpoint",
    "contradictions",
    "remarks",
)


def told(assessments: Sequence[Assessment], *fields: str) -> list[list[object]]:
    """Some fields of each."""
    return [[getattr(each, field) for field in fields] for each in assessments]


@pytest.mark.parametrize("summary", CASES.values(), ids=CASES)
def test_assessments_come_back_as_they_were_judged(
    database: Database, catalog: WritableCatalog, summary: dict[str, Any]
) -> None:
    """Class, flags, bands and checkpoint of every model, in the summary's order."""
    judged = add(database, summary)

    assert told(catalog.assessments(NAME), *COMPARED) == told(judged, *COMPARED)
    # As text: NaN is not equal to itself.
    assert repr(told(catalog.assessments(NAME), "at_checkpoint")) == repr(told(judged, "at_checkpoint"))


@pytest.mark.parametrize("summary", CASES.values(), ids=CASES)
def test_reasons_come_back_as_they_are_in_the_archive(
    database: Database, catalog: WritableCatalog, summary: dict[str, Any]
) -> None:
    """The report, the message in chat and the command line never tell different reasons for one judgement."""
    judged = add(database, summary)

    assert told(catalog.assessments(NAME), "reasons") == told(judged, "reasons")


def test_checkpoint_that_is_text_comes_back_as_text(database: Database, catalog: WritableCatalog) -> None:
    """`007` is a name and not the number 7."""
    add(database, one(fitness_history=[0.5, 0.9], checkpoints=["6", "007"]))

    (assessment,) = catalog.assessments(NAME)
    assert assessment.checkpoint_update == "007"


def test_figures_that_are_not_finite_come_back_as_they_were(database: Database, catalog: WritableCatalog) -> None:
    """Not a number, infinite and missing are three things, although a table makes null of two of them."""
    add(database, one(final_pf=math.inf, final_fitness=math.nan, final_consistency=-math.inf, final_max_dd=None))

    (assessment,) = catalog.assessments(NAME)
    assert repr(assessment.values) == "(nan, inf, -inf, None)"


def test_runs_are_listed_oldest_first_with_suffixes_by_number(database: Database, catalog: WritableCatalog) -> None:
    """Whatever the order in which they came."""
    ordered = ["20231231_235959", NAME, *(f"{NAME}_{suffix}" for suffix in range(2, 12)), "20250101_000000"]
    for name in reversed(ordered):
        add(database, flat_summary(), name)

    assert [run.timestamp for run in catalog.runs()] == ordered
    assert [run.timestamp for run in catalog.runs(3)] == ordered[-3:]
    assert catalog.latest(NOW) == ordered[-1], "all were archived at one moment"
    assert catalog.names() == set(ordered)
    assert len(catalog) == len(ordered)


@pytest.mark.parametrize(
    ("archived", "latest"),
    [
        ({"20990101_000000": -60.0, "20241224_153000": -30.0}, "20241224_153000"),
        ({"20241224_153000": -60.0, "20990101_000000": -30.0}, "20990101_000000"),
        ({"20241224_153000": -30.0, "20241224_153000_10": -30.0, "20241224_153000_9": -30.0}, "20241224_153000_10"),
        ({"20241224_153000": -30.0, "20241223_000000": 3 * 86400.0}, "20241224_153000"),
        ({"20241224_153000": -30.0, "20241223_000000": 3600.0}, "20241223_000000"),
        ({"20241224_153000": 9 * 86400.0, "20241223_000000": 3 * 86400.0}, "20241224_153000"),
    ],
    ids=["dated ahead", "archived last", "same moment", "clock was ahead", "clock of another host", "clock is behind"],
)
def test_latest_run_is_the_one_archived_last(
    database: Database, catalog: WritableCatalog, archived: Mapping[str, float], latest: str
) -> None:
    """Neither a run that is dated ahead nor one that was archived under a wrong clock stays the latest for ever."""
    for name, seconds in archived.items():
        run, assessments = judged_run(flat_summary(), timestamp=name)
        moment = datetime.fromtimestamp(NOW + seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        with database.transaction():
            catalog.add(run._replace(archived_at=moment), model_rows(assessments), announced=True)
    assert catalog.latest(NOW) == latest


def test_latest_run_is_found_by_an_index(database: Database, catalog: WritableCatalog) -> None:
    """The question costs the same whatever the number of runs: nothing is sorted, no table is read through."""
    asked: list[str] = []
    database.connection.set_trace_callback(asked.append)
    catalog.latest(NOW)
    database.connection.set_trace_callback(None)
    for query in asked:
        plan = " ".join(str(row[3]) for row in database.connection.execute(f"EXPLAIN QUERY PLAN {query}"))
        assert "USING INDEX runs_by_archived_at (archived_at" in plan
        assert "TEMP B-TREE" not in plan


def test_empty_catalog_answers_with_nothing(catalog: WritableCatalog) -> None:
    """No runs, no error."""
    assert (catalog.runs(), catalog.latest(NOW), catalog.names(), len(catalog)) == ([], None, set(), 0)
    assert catalog.run(NAME) is None
    assert (catalog.assessments(NAME), catalog.history("A")) == ([], [])
    assert catalog.symbols(NAME, Classification.APPROVED) == []


def test_row_of_a_run_says_what_the_run_says(database: Database, catalog: WritableCatalog) -> None:
    """Every field, and the counts by class."""
    run, _ = judged_run(flat_summary(run_name="night", reward_scale=0.01))
    add(database, flat_summary(run_name="night", reward_scale=0.01))

    row = catalog.run(NAME)

    assert row is not None
    assert row == run
    assert row.counts == run.counts == {"APPROVED": 0, "REVIEW": 2, "DROP": 1}


def test_symbols_of_a_class_are_in_the_summary_s_order(database: Database, catalog: WritableCatalog) -> None:
    """Not in the alphabet's."""
    add(database, flat_summary({"Z": GOOD, "M": BAD, "A": GOOD, "K": MIDDLING, "B": GOOD}))

    assert [catalog.symbols(NAME, each) for each in Classification] == [["Z", "A", "B"], ["K"], ["M"]]


def test_history_of_a_symbol_is_oldest_first_and_cut_to_the_youngest(
    database: Database, catalog: WritableCatalog
) -> None:
    """Across suffixes, and only that symbol, to the letter."""
    ordered = [NAME, f"{NAME}_2", f"{NAME}_10", "20250101_000000"]
    for number, name in reversed(list(enumerate(ordered))):
        add(database, flat_summary({"A": {**GOOD, "final_pf": 2.0 + number}, "a": BAD, "AA": BAD}), name)

    assert [(name, assessment.values[1]) for name, assessment, _ in catalog.history("A")] == [
        (name, 2.0 + number) for number, name in enumerate(ordered)
    ]
    assert [name for name, _, _ in catalog.history("A", 2)] == ordered[-2:]
    assert catalog.history("A", 0) == []
    assert catalog.history("A' OR '1'='1") == []


def test_each_run_keeps_the_policy_that_judged_it(database: Database, catalog: WritableCatalog) -> None:
    """Thresholds that changed since do not judge the past: bands and reasons are by the run's own."""
    add(database, flat_summary({"A": GOOD}), NAME)
    add(database, flat_summary({"A": GOOD}), f"{NAME}_2", STRICT)

    (_, first, default), (_, second, strict) = catalog.history("A")

    assert (default, strict) == (Policy.from_config(), Policy.from_config(STRICT))
    assert (first.classification, first.reasons) == ("APPROVED", ())
    assert (second.classification, len(second.reasons)) == ("REVIEW", 2)
    assert catalog.policy(strict.id) == strict


def test_run_added_again_replaces_what_was_there(database: Database, catalog: WritableCatalog) -> None:
    """Made anew from the archive, a run leaves no row of its former self."""
    add(database, flat_summary({"A": GOOD, "B": GOOD, "C": BAD}))

    add(database, flat_summary({"B": BAD}))

    assert [each.symbol for each in catalog.assessments(NAME)] == ["B"]
    assert catalog.symbols(NAME, Classification.APPROVED) == []
    assert len(catalog) == 1


def test_run_removed_leaves_no_trace_in_any_answer(database: Database, catalog: WritableCatalog) -> None:
    """What the archive no longer has the catalog does not have either; removing what is not there is nothing."""
    add(database, flat_summary({"A": GOOD}), NAME)
    add(database, flat_summary({"A": GOOD}), f"{NAME}_2")

    with database.transaction():
        for name in (NAME, "20000101_000000"):
            assert catalog.remove(name) is None

    assert catalog.names() == {f"{NAME}_2"}
    assert [name for name, _, _ in catalog.history("A")] == [f"{NAME}_2"]
    assert catalog.assessments(NAME) == []


def test_run_removed_stays_for_its_messages_and_is_in_no_answer(database: Database, catalog: WritableCatalog) -> None:
    """Its figures and its changes can still be told, also if another run has its name; nothing else sees it."""
    first, second = days(database, {"A": BAD, "B": GOOD}, {"A": GOOD, "B": GOOD})
    name, changed = "20241202_000000", catalog.changes([second])
    with database.transaction():
        kept = catalog.remove(name, keeps=True)
        assert kept is not None
    add(database, flat_summary({"C": GOOD}), name)
    add(database, flat_summary({"A": BAD}), "20241203_000000")

    (tally,) = catalog.tallies([kept], None)
    assert (tally.run.timestamp, tally.is_there, tally.key) == (name, False, kept)
    assert [model.symbol for model in catalog.first(tally, Classification.APPROVED, None, -1)] == ["A", "B"]
    assert [each._replace(run=second) for each in catalog.changes([kept])] == changed
    assert [model.symbol for model in catalog.at(tally, [0])] == ["A"]
    assert [model.symbol for model in catalog.assessments(name)] == ["C"]
    assert [run for run, _, _ in catalog.history("A")] == ["20241201_000000", "20241203_000000"]
    assert catalog.changes([run_key("20241203_000000")]) == []  # beside the first: BAD it was, BAD it is
    assert len(list(catalog.figures(Policy.from_config()))) == catalog.models() == 4
    assert [each.timestamp for each in catalog.runs()] == ["20241201_000000", name, "20241203_000000"]
    assert [each.timestamp for each in catalog.missing()] == [name]
    assert first < second < kept

    with database.transaction():
        catalog.let_go(kept)
    assert catalog.removed() == []
    assert catalog.tallies([kept], None) == []


def test_runs_removed_under_one_name_are_kept_apart(database: Database, catalog: WritableCatalog) -> None:
    """Each with its own figures, in the order in which they went."""
    keys = []
    for symbol in ("A", "B"):
        add(database, flat_summary({symbol: GOOD}), NAME)
        with database.transaction():
            keys.append(catalog.remove(NAME, keeps=True))
    told = catalog.tallies([key for key in keys if key is not None], None)
    assert [catalog.first(each, Classification.APPROVED, None, 1)[0].symbol for each in told] == ["A", "B"]


def test_unannounced_runs_are_listed_until_they_are_decided_on(database: Database, catalog: WritableCatalog) -> None:
    """Oldest first, once."""
    for name, announced in ((f"{NAME}_10", False), (f"{NAME}_2", False), (NAME, True)):
        add(database, flat_summary(), name, announced=announced)

    assert [run.timestamp for run in catalog.unannounced()] == [f"{NAME}_2", f"{NAME}_10"]
    with database.transaction():
        catalog.mark_announced()
    assert catalog.unannounced() == []


@pytest.mark.parametrize("summary", CASES.values(), ids=CASES)
def test_figures_under_the_same_policy_are_judged_as_the_run_was(
    database: Database, catalog: WritableCatalog, summary: dict[str, Any]
) -> None:
    """The figures in the catalog are enough to judge again: the same class, and nobody changes."""
    judged = add(database, summary)

    figures = [*catalog.figures(Policy.from_config())]
    found = try_policy(figures, Policy.from_config())

    assert [symbol for symbol, *_ in figures] == [each.symbol for each in judged]
    assert (found.assessments, found.foreign, found.changed) == (len(judged), 0, 0)
    assert found.after == found.before == Counter(each.classification for each in judged)


def days(database: Database, *runs: Mapping[str, Any]) -> list[int]:
    """Add a run a day, each of its models as given; their keys."""
    names = [f"202412{number:02}_000000" for number in range(1, len(runs) + 1)]
    for name, models in zip(names, runs, strict=True):
        add(database, flat_summary(models), name)
    return [run_key(name) for name in names]


def test_change_is_beside_the_last_run_before_that_has_the_symbol(database: Database, catalog: WritableCatalog) -> None:
    """Runs without it are passed over; who is new, and who is as before, did not change."""
    keys = days(database, {"A": GOOD, "B": GOOD}, {"C": BAD}, {"A": BAD, "B": GOOD, "C": GOOD, "D": BAD})
    assert catalog.changes(keys[:2]) == []
    drop, approved = Classification.DROP, Classification.APPROVED
    assert catalog.changes(keys[2:]) == [
        (keys[2], 0, "A", drop, approved, False),
        (keys[2], 2, "C", approved, drop, False),
    ]
    (tally,) = catalog.tallies(keys[2:], None)
    assert [model.symbol for model in catalog.at(tally, [2, 0])] == ["C", "A"]
    assert catalog.at(tally._replace(key=1), [0]) == []


def test_change_over_many_runs_is_from_before_the_first_to_the_last(
    database: Database, catalog: WritableCatalog
) -> None:
    """What changed back did not change, in whatever order the runs are named."""
    keys = days(database, {"A": GOOD, "B": GOOD}, {"A": BAD}, {"A": MIDDLING, "B": BAD}, {"B": GOOD})
    assert [(change.symbol, change.now) for change in catalog.changes(keys[:0:-1])] == [("A", Classification.REVIEW)]


def test_change_under_another_policy_is_known(database: Database, catalog: WritableCatalog) -> None:
    """The same figures, and other bounds."""
    add(database, flat_summary({"A": GOOD}), "20241201_000000")
    add(database, flat_summary({"A": GOOD}), "20241202_000000", STRICT)
    (change,) = catalog.changes([run_key("20241202_000000")])
    assert (change.now, change.before, change.other_policy) == (Classification.REVIEW, Classification.APPROVED, True)


SHORT = {"SCAN spans", "SCAN json_each VIRTUAL TABLE INDEX 1:", "SCAN all_runs USING INDEX runs_removed"}
"""What is asked for, and the runs that stay for their messages alone."""


def test_changes_are_found_by_index_alone(database: Database, catalog: WritableCatalog) -> None:
    """A look for a symbol's last run must cost the same at 100,000 runs as at two."""
    statements: list[str] = []
    database.connection.set_trace_callback(statements.append)
    catalog.changes([run_key("20241202_000000")])
    database.connection.set_trace_callback(None)
    plan = [row[3] for row in database.connection.execute(f"EXPLAIN QUERY PLAN {statements[0]}")]
    assert not [step for step in plan if step.startswith("SCAN") and step not in SHORT]
    assert sum("assessments_by_symbol (symbol=? AND run" in step for step in plan) == 3
