"""The catalog: the archive's runs and assessments in tables, to answer questions without reading folders.

The rule: nothing here changes it (state.cataloguing does), so that who only asks needs no right to write.
"""

import json
import math
import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from functools import cache
from typing import Any, Final, NamedTuple, Protocol

from modelwarden.gate.assessment import CLASSIFICATIONS, Assessment, Classification
from modelwarden.gate.policy import Policy
from modelwarden.gate.run import Counts, RunRecord, Source
from modelwarden.gate.timestamp import AHEAD, run_key
from modelwarden.gate.what_if import Judged
from modelwarden.state.packing import unpacked_figures
from modelwarden.state.rows import CODE_OF, CONTRADICTED, MODEL_COLUMNS, ModelRow, assessment_of

_AT_SOURCE: Final = RunRecord._fields.index("source")
_AT_POLICY: Final = RunRecord._fields.index("policy")
_BEFORE, _BEHIND = RunRecord._fields[:_AT_SOURCE], RunRecord._fields[_AT_SOURCE + 1 :]
RUN_FIELDS: Final = (*_BEFORE, "source", *(f"source_{each}" for each in Source._fields[1:]), *_BEHIND)
RUN_COLUMNS: Final = ", ".join(RUN_FIELDS)
"""A run's fields as columns; `source` is the source's path, and `policy` the policy's id."""

_REMOVED: Final = "(SELECT run FROM all_runs WHERE removed)"
"""The keys of the runs that the archive no longer has and of which somebody is still to be told: mostly none."""

_COUNT_OF: Final = dict(zip(CLASSIFICATIONS, Counts.__annotations__, strict=True))


class RunTally(NamedTuple):
    """A run as a message knows it.

    Attributes:
        key: by which its models are found; see gate.timestamp.run_key.
        run: its record.
        is_there: whether the archive still has it.
        counts: models per class, best first, of those that were asked for.
    """

    key: int
    run: RunRecord
    is_there: bool
    counts: Mapping[Classification, int]


class Change(NamedTuple):
    """A model whose class is another than in its symbol's last run before.

    Attributes:
        run: the key of the run that has it now; see gate.timestamp.run_key.
        position: of the model in that run.
        symbol: its name.
        now: its class.
        before: its class in the last run before that has the symbol.
        other_policy: whether that run was judged by another policy.
    """

    run: int
    position: int
    symbol: str
    now: Classification
    before: Classification
    other_policy: bool


class MissingRun(NamedTuple):
    """What is still known of a run that the archive no longer has.

    Attributes:
        timestamp: its name.
        sha256: of the summary.
        source: where the summary was found.
    """

    timestamp: str
    sha256: str
    source: str


class InReview(NamedTuple):
    """A model that a person is to look at.

    Attributes:
        run: the run's name.
        symbol: the model.
        archived_at: since when, ISO 8601.
        sha256: of the run's summary.
    """

    run: str
    symbol: str
    archived_at: str
    sha256: str


class Asked(NamedTuple):
    """Which runs are asked for: those that meet all of these. None asks for nothing.

    Attributes:
        since: the timestamp, `YYYYMMDD_HHMMSS`, of the earliest.
        symbol: a model of the run has this symbol, or one that fits this shell pattern.
        classification: a model is in this class; if a symbol is asked for, a model of that symbol.
        name: the trainer's name for the run is this, or fits this shell pattern.
    """

    since: str | None = None
    symbol: str | None = None
    classification: Classification | None = None
    name: str | None = None

    def takes(self, run: RunRecord) -> bool:
        """Whether a run meets what can be told without looking at its models' symbols."""
        return (
            (self.since is None or run.timestamp >= self.since)
            and (self.name is None or (run.run_name is not None and fits(run.run_name, self.name)))
            and (self.classification is None or run.counts[self.classification] > 0)
        )

    def takes_model(self, symbol: str, classification: Classification) -> bool:
        """Whether a model is one that is asked for."""
        return (self.symbol is None or fits(symbol, self.symbol)) and self.classification in {None, classification}


def fits(text: str, pattern: str) -> bool:
    """Whether a text is what is asked for, to the letter or as a shell pattern; upper and lower case differ."""
    return text == pattern or fnmatchcase(text, pattern)


_ALL: Final = Asked()


class Connected(Protocol):
    """An open state file, be it to be written or only read."""

    @property
    def connection(self) -> sqlite3.Connection:
        """To it."""
        ...


class Catalog:
    """The tables `all_runs`, `assessments`, `policies` and `missing`; the view `runs` has what the archive has."""

    def __init__(self, database: Connected) -> None:
        self._connection = database.connection
        self._policies: dict[str, Policy] = {}

    def __len__(self) -> int:
        return self.count()

    def count(self, asked: Asked = _ALL) -> int:
        """How many runs meet what is asked."""
        where, values = self._where(asked)
        (count,) = self._connection.execute(f"SELECT count(*) FROM runs{where}", values).fetchone()
        return int(count)

    def names(self) -> set[str]:
        """The names of all runs."""
        return {name for (name,) in self._connection.execute("SELECT timestamp FROM runs")}

    def digests(self) -> Iterator[tuple[str, str]]:
        """Name and sha256 of every run, in no order."""
        return iter(self._connection.execute("SELECT timestamp, sha256 FROM runs"))

    def sha256(self, name: str) -> str | None:
        """Of the bytes of the run of that name, or None."""
        row = self._connection.execute("SELECT sha256 FROM runs WHERE run = ?", (run_key(name),)).fetchone()
        return None if row is None else row[0]

    def says(self, run: RunRecord, models: Sequence[ModelRow]) -> bool:
        """Whether exactly this is here: to look costs a third of writing it once more."""
        return self.run(run.timestamp) == run and self.rows(run.timestamp) == models

    def pruned(self) -> dict[str, str]:
        """The names of the runs that were removed on purpose and are not there again, by the sha256 of their bytes."""
        return dict(self._connection.execute("SELECT sha256, run FROM pruned"))

    def removed(self) -> list[tuple[int, str]]:
        """Key and sha256 of the runs that the archive no longer has and whose rows stayed."""
        return self._connection.execute("SELECT run, sha256 FROM all_runs WHERE removed").fetchall()

    def look(self) -> str | None:
        """How the archive looked when all of it was here; None if some of it may not be. See Database.note_look."""
        row = self._connection.execute("SELECT looked FROM identity").fetchone()
        return None if row is None else row[0]

    def before(self, name: str) -> str | None:
        """The name of the run before that one by name, or None."""
        row = self._connection.execute(
            "SELECT timestamp FROM runs WHERE run < ? ORDER BY run DESC LIMIT 1", (run_key(name),)
        ).fetchone()
        return None if row is None else row[0]

    def missing(self) -> list[MissingRun]:
        """The runs that were in the archive and are not, oldest first."""
        rows = self._connection.execute("SELECT timestamp, sha256, source FROM missing ORDER BY run")
        return [MissingRun(*row) for row in rows]

    def is_announced(self, name: str, sha256: str) -> bool:
        """Whether the run is here, or its bytes were, and its outbox rows were decided on."""
        rows = self._connection.execute(
            "SELECT 1 FROM runs WHERE run = ? AND announced "
            "UNION ALL SELECT 1 FROM missing WHERE sha256 = ? AND announced",
            (run_key(name), sha256),
        )
        return rows.fetchone() is not None

    def unannounced(self) -> list[RunRecord]:
        """The runs whose outbox rows nobody decided on yet, oldest first."""
        rows = self._connection.execute(f"SELECT {RUN_COLUMNS} FROM runs WHERE NOT announced ORDER BY run")
        return [self._run(row) for row in rows]

    def run(self, name: str) -> RunRecord | None:
        """The run of that name, or None."""
        row = self._connection.execute(f"SELECT {RUN_COLUMNS} FROM runs WHERE run = ?", (run_key(name),)).fetchone()
        return None if row is None else self._run(row)

    def latest(self, now: float) -> str | None:
        """The name of the run that was archived last, or None if there is none; of several, the last by name.

        A run that is dated ahead does not stay the latest for ever, and neither does one that was archived under a
        clock that was ahead: what was archived more than a day after `now` (seconds since the epoch) comes last.
        """
        limit = (datetime.fromtimestamp(now, UTC) + AHEAD).isoformat(timespec="microseconds").replace("+00:00", "Z")
        query = "SELECT timestamp FROM runs WHERE archived_at {} ? ORDER BY archived_at DESC, run DESC LIMIT 1"
        for comparison in ("<=", ">"):
            row = self._connection.execute(query.format(comparison), (limit,)).fetchone()
            if row is not None:
                return str(row[0])
        return None

    def last_archived_below(self, folder: str) -> float | None:
        """When a run whose summary came from below a folder was last archived, seconds since the epoch, or None."""
        below = folder.rstrip("/") + "/"
        (moment,) = self._connection.execute(
            "SELECT max(archived_at) FROM runs WHERE substr(source, 1, ?) = ? "
            "AND daemon_id = (SELECT daemon_id FROM identity)",
            (len(below), below),
        ).fetchone()
        return None if moment is None else datetime.fromisoformat(moment).timestamp()

    def runs(self, limit: int | None = None, asked: Asked = _ALL) -> list[RunRecord]:
        """The runs that meet what is asked, oldest first; with a limit the youngest so many."""
        where, values = self._where(asked)
        rows = self._connection.execute(
            f"SELECT {RUN_COLUMNS} FROM runs{where} ORDER BY run DESC LIMIT ?",
            (*values, -1 if limit is None else limit),
        ).fetchall()
        return [self._run(row) for row in reversed(rows)]

    def _where(self, asked: Asked) -> tuple[str, Sequence[Any]]:
        """The condition that says what is asked, and its values."""
        conditions: list[str] = []
        values: list[Any] = []
        if asked.since is not None:
            conditions.append("run >= ?")
            values.append(run_key(asked.since))
        if asked.name is not None:
            pattern = asked.name
            self._connection.create_function(
                "is_name", 1, lambda name: name is not None and fits(name, pattern), deterministic=True
            )
            conditions.append("is_name(run_name)")
        if asked.symbol is not None:
            models, of_class = "SELECT run FROM json_each(?) JOIN assessments ON symbol = value", ""
            values.append(json.dumps([symbol for symbol in self.all_symbols() if fits(symbol, asked.symbol)]))
            if asked.classification is not None:
                of_class = " WHERE classification = ?"
                values.append(CODE_OF[asked.classification])
            conditions.append(f"run IN ({models}{of_class})")
        elif asked.classification is not None:
            conditions.append(f"{_COUNT_OF[asked.classification]} > 0")
        return (f" WHERE {' AND '.join(conditions)}" if conditions else ""), values

    def in_review(self, run: str | None = None, of: Collection[str] | None = None) -> Iterator[InReview]:
        """The models in REVIEW as they are read, oldest run first, whatever was decided about them.

        Args:
            run: of this run alone.
            of: of runs with these summaries alone, by sha256.
        """
        conditions = [
            *([] if run is None else ["run = ?"]),
            *([] if of is None else ["sha256 IN (SELECT value FROM json_each(?))"]),
        ]
        rows = self._connection.execute(  # CROSS: run by run, so that the first is there at once
            "SELECT timestamp, symbol, archived_at, sha256 FROM runs CROSS JOIN assessments USING (run) "
            f"WHERE {' AND '.join(['review_count', *conditions, 'classification = ?'])} ORDER BY run, position",
            (
                *([] if run is None else [run_key(run)]),
                *([] if of is None else [json.dumps([*of])]),
                CODE_OF[Classification.REVIEW],
            ),
        )
        return (InReview(*row) for row in rows)

    def count_in_review(self, run: str | None = None) -> int:
        """How many models are in REVIEW, of one run if it is named, whatever was decided about them."""
        (count,) = self._connection.execute(
            f"SELECT ifnull(sum(review_count), 0) FROM runs{'' if run is None else ' WHERE run = ?'}",
            [] if run is None else [run_key(run)],
        ).fetchone()
        return int(count)

    def youngest(self, limit: int) -> list[str]:
        """The names of the youngest runs by name, so many at most, the youngest first."""
        rows = self._connection.execute("SELECT timestamp FROM runs ORDER BY run DESC LIMIT ?", (limit,))
        return [name for (name,) in rows]

    def all_symbols(self) -> list[str]:
        """Every symbol that a run has, in order: each is looked up after the one before, however many runs have it."""
        rows = self._connection.execute(
            "WITH RECURSIVE each(symbol) AS (SELECT min(symbol) FROM assessments UNION ALL "
            "SELECT (SELECT min(symbol) FROM assessments WHERE assessments.symbol > each.symbol) FROM each "
            "WHERE each.symbol IS NOT NULL) SELECT symbol FROM each WHERE symbol IS NOT NULL"
        )
        return [symbol for (symbol,) in rows]

    def named(self, first: str | None, run_name: str) -> list[str]:
        """The names of the runs whose name begins like that, or that the trainer called so, oldest first."""
        rows = self._connection.execute(
            "SELECT timestamp FROM runs WHERE run_name = ? OR substr(timestamp, 1, ?) = ? ORDER BY run",
            (run_name, len(first or ""), first),
        )
        return [name for (name,) in rows]

    def assessments(self, name: str) -> list[Assessment]:
        """The assessments of a run, in the summary's order, without the fitness histories."""
        run = self.run(name)
        if run is None:
            return []
        rows = self._connection.execute(
            f"SELECT {MODEL_COLUMNS} FROM assessments WHERE run = ? ORDER BY position", (run_key(name),)
        )
        return [assessment_of(row, run.policy, run.reward_scale) for row in rows]

    def rows(self, name: str) -> list[ModelRow]:
        """The rows of a run's models, as `add` was given them."""
        return self._connection.execute(
            f"SELECT position, {MODEL_COLUMNS} FROM assessments WHERE run = ? ORDER BY position", (run_key(name),)
        ).fetchall()

    def symbols(self, name: str, classification: Classification) -> list[str]:
        """The symbols of one class of a run, in the summary's order."""
        rows = self._connection.execute(
            "SELECT symbol FROM assessments WHERE run = ? AND classification = ? ORDER BY position",
            (run_key(name), CODE_OF[classification]),
        )
        return [symbol for (symbol,) in rows]

    def classes(self, name: str) -> list[tuple[str, Classification]]:
        """Symbol and class of each model of a run, in the summary's order."""
        rows = self._connection.execute(
            "SELECT symbol, classification FROM assessments WHERE run = ? ORDER BY position", (run_key(name),)
        )
        return [(symbol, CLASSIFICATIONS[code]) for symbol, code in rows]

    def tallies(self, keys: Sequence[int], is_chosen: Callable[[str], bool] | None) -> list[RunTally]:
        """The runs of these keys that there are, in their order, and how many models of each class they have.

        Args:
            keys: see gate.timestamp.run_key.
            is_chosen: from a symbol to whether the model counts; None if all do.
        """
        if is_chosen is None:
            counts, models = "approved_count, review_count, dropped_count", ""
        else:
            # Asked once a symbol and not once a model: many runs have the same symbols.
            self._connection.create_function("is_chosen", 1, cache(is_chosen), deterministic=True)
            counts = ", ".join(f"ifnull(sum(classification = {code}), 0)" for code in CODE_OF.values())
            models = "LEFT JOIN assessments ON assessments.run = runs.run AND is_chosen(symbol) GROUP BY wanted.key"
        rows = self._connection.execute(
            f"SELECT runs.run, removed, {RUN_COLUMNS}, {counts} FROM json_each(?) AS wanted "
            f"JOIN all_runs AS runs ON runs.run = wanted.value {models} ORDER BY wanted.key",
            (json.dumps(list(keys)),),
        )
        width = len(RUN_FIELDS)
        tallies = []
        for key, removed, *row in rows:
            counted = dict(zip(CLASSIFICATIONS, row[width:], strict=True))
            tallies.append(RunTally(key, self._run(row[:width]), not removed, counted))
        return tallies

    def first(
        self, run: RunTally, classification: Classification, is_chosen: Callable[[str], bool] | None, most: int
    ) -> list[Assessment]:
        """The first so many assessments of one class of a run, without the fitness histories; all if `most` is < 0."""
        if is_chosen is not None:
            self._connection.create_function("is_chosen", 1, is_chosen, deterministic=True)
        rows = self._connection.execute(
            f"SELECT {MODEL_COLUMNS} FROM assessments WHERE run = ? AND classification = ?"
            f"{' AND is_chosen(symbol)' if is_chosen is not None else ''} ORDER BY position LIMIT ?",
            (run.key, CODE_OF[classification], most),
        )
        return [assessment_of(row, run.run.policy, run.run.reward_scale) for row in rows]

    def changes(self, keys: Iterable[int]) -> list[Change]:
        """What changed over these runs: of each symbol its last one, beside the last run before its first one.

        Before means earlier by name, whenever it was archived. A symbol that no earlier run has did not change.
        """
        # The index is named: by itself SQLite would look through all models of the run before.
        rows = self._connection.execute(
            "WITH spans AS (SELECT symbol, min(run) AS first, max(run) AS last FROM json_each(?) "
            "JOIN assessments ON run = value GROUP BY symbol) "
            "SELECT now.run, now.position, now.symbol, now.classification, before.classification, "
            "now_run.policy <> before_run.policy FROM spans "
            "JOIN assessments AS now INDEXED BY assessments_by_symbol "
            "ON now.symbol = spans.symbol AND now.run = spans.last "
            "JOIN assessments AS before INDEXED BY assessments_by_symbol ON before.symbol = spans.symbol AND "
            "before.run = (SELECT max(run) FROM assessments WHERE symbol = spans.symbol AND run < spans.first "
            f"AND run NOT IN {_REMOVED}) "
            "JOIN all_runs AS now_run ON now_run.run = now.run JOIN runs AS before_run ON before_run.run = before.run "
            "WHERE before.classification <> now.classification ORDER BY now.run, now.position",
            (json.dumps(list(keys)),),
        )
        return [
            Change(run, position, symbol, CLASSIFICATIONS[now], CLASSIFICATIONS[before], bool(other_policy))
            for run, position, symbol, now, before, other_policy in rows
        ]

    def at(self, run: RunTally, positions: Iterable[int]) -> list[Assessment]:
        """The assessments at these positions of a run, in their order, without the fitness histories."""
        rows = self._connection.execute(
            f"SELECT {MODEL_COLUMNS} FROM json_each(?) AS wanted JOIN assessments "
            "ON run = ? AND position = wanted.value ORDER BY wanted.key",
            (json.dumps(list(positions)), run.key),
        )
        return [assessment_of(row, run.run.policy, run.run.reward_scale) for row in rows]

    def history(self, symbol: str, limit: int | None = None) -> list[tuple[str, Assessment, Policy]]:
        """A symbol's assessments, oldest first, each with its run's name and policy; with a limit the youngest."""
        if not _is_text(symbol):
            return []
        rows = self._connection.execute(
            f"SELECT timestamp, policy, reward_scale, {MODEL_COLUMNS} FROM assessments JOIN runs USING (run) "
            "WHERE symbol = ? ORDER BY run DESC LIMIT ?",
            (symbol, -1 if limit is None else limit),
        ).fetchall()
        found = []
        for name, policy_id, scale, *model in reversed(rows):
            policy = self.policy(policy_id)
            found.append((name, assessment_of(model, policy, scale), policy))
        return found

    def models(self) -> int:
        """How many models were judged, each counted in each of its runs."""
        (count,) = self._connection.execute(
            f"SELECT ifnull(sum({' + '.join(_COUNT_OF.values())}), 0) FROM runs"
        ).fetchone()
        return int(count)

    def superseding(self) -> list[tuple[str | None, str]]:
        """Every run that supersedes one, oldest first: the earlier's name, then its own."""
        rows = self._connection.execute(
            "SELECT supersedes, timestamp FROM runs WHERE supersedes IS NOT NULL ORDER BY run"
        )
        return rows.fetchall()

    def figures(self, policy: Policy) -> Iterator[Judged]:
        """Every model that was judged with its figures as another policy would judge them, oldest run first.

        Nothing is read but the catalog, and nothing is changed.
        """
        runs = self._connection.execute("SELECT run, reward_scale, policy FROM runs").fetchall()
        rows = self._connection.execute(
            "SELECT run, symbol, classification, flags, figures, others "
            f"FROM assessments WHERE run NOT IN {_REMOVED} ORDER BY run, position"
        )
        of_run = {run: (scale, _places(self.policy(recorded), policy)) for run, scale, recorded in runs}
        for run, symbol, code, bits, packed, others in rows:
            scale, places = of_run[run]
            values: Sequence[float | None] | None = unpacked_figures(packed)
            if places is not None:
                values = _read_for(policy, places, unpacked_figures(packed), others)
            yield symbol, code, values, scale, bits & CONTRADICTED != 0

    def _run(self, row: Sequence[Any]) -> RunRecord:
        """The record in a row of RUN_COLUMNS."""
        behind = _AT_SOURCE + len(Source._fields)
        at_policy = behind + _AT_POLICY - _AT_SOURCE - 1
        source, policy = Source(*row[_AT_SOURCE:behind]), self.policy(row[at_policy])
        return RunRecord._make((*row[:_AT_SOURCE], source, *row[behind:at_policy], policy, *row[at_policy + 1 :]))

    def policy(self, policy_id: str) -> Policy:
        """The policy behind an id that a run names.

        Raises:
            sqlite3.DatabaseError: the state file does not say: it is damaged.
        """
        if policy_id not in self._policies:
            row = self._connection.execute("SELECT thresholds FROM policies WHERE id = ?", (policy_id,)).fetchone()
            try:
                recorded = json.loads(row[0])
                is_whole = "gates" in recorded  # else the ten thresholds of an earlier state file
                self._policies[policy_id] = (Policy.from_json if is_whole else Policy.from_thresholds)(recorded)
            except (ValueError, TypeError) as error:
                damaged = sqlite3.DatabaseError(f"what it has of the policy {policy_id} can't be read")
                damaged.sqlite_errorname = "SQLITE_CORRUPT"  # told as what SQLite itself can't read
                raise damaged from error
        return self._policies[policy_id]


def _places(recorded: Policy, policy: Policy) -> Sequence[int | None] | None:
    """Where each gate's figure stands among those that another policy recorded, None if it is not there.

    None if all stand where they are.
    """
    if recorded.metrics == policy.metrics:
        return None
    places = {metric: at for at, metric in enumerate(recorded.metrics)}
    return [places.get(metric) for metric in policy.metrics]


def _read_for(
    policy: Policy, places: Sequence[int | None], recorded: Sequence[float | None], others: str | None
) -> Sequence[float | None] | None:
    """The figures for the gates of a policy, those included that were recorded and judged nothing.

    None if the model has none, and its own policy knew none of the metrics.
    """
    unjudged = json.loads(others) if others is not None else {}
    if places.count(None) == len(places) and not any(metric in unjudged for metric in policy.metrics):
        return None
    return tuple(
        recorded[at] if at is not None else _unjudged(metric, unjudged)
        for at, metric in zip(places, policy.metrics, strict=True)
    )


def _unjudged(metric: str, others: Mapping[str, float | None]) -> float | None:
    """A figure that no gate named; null is one that is not finite."""
    if metric not in others:
        return None
    value = others[metric]
    return math.nan if value is None else value


def _is_text(symbol: str) -> bool:
    """Whether SQLite can hold it: an argument of bytes that are no UTF-8 can't be any model's symbol."""
    try:
        symbol.encode()
    except UnicodeEncodeError:
        return False
    return True
