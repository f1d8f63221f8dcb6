"""The settings: one model of all that can be set, and what each setting may be by itself.

The rule: nothing starts on settings that are not wholly understood. What a setting may be is said here, what several
may be together in `agreement`; where they come from and how it is told that they are wrong is `loading`'s.
"""

import math
import re
from collections.abc import Mapping
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, field_validator

from modelwarden.config.addresses import address_of
from modelwarden.config.paths import checked_path
from modelwarden.config.telling import looks_secret
from modelwarden.config.whereabouts import DEFAULT_ARCHIVE
from modelwarden.gate.gates import Better, Gate, JudgeAt, Missing, Override
from modelwarden.gate.policy import DEFAULT_NAME, Policy
from modelwarden.gate.thresholds import ModelGatingConfig


def _no_secret(value: str) -> str:
    """Text that messages quote. Raises ValueError, without quoting it, if it looks like a token."""
    if looks_secret(value):
        raise ValueError("this looks like a token or a URL, and would be shown in messages: only url may hold a secret")
    return value


Text = Annotated[str, Field(min_length=1), AfterValidator(_no_secret)]
PathText = Annotated[str, Field(min_length=1), AfterValidator(checked_path)]
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
_LONGEST_DAYS: Final = 36_500
"""A hundred years: what asks for more can't be told as a time of day, nor be waited for by anything that waits."""
_LONGEST_SECONDS: Final = _LONGEST_DAYS * 86_400.0

Seconds = Annotated[float, Field(strict=True, gt=0, le=_LONGEST_SECONDS, allow_inf_nan=False)]
Hours = Annotated[float, Field(strict=True, gt=0, le=_LONGEST_DAYS * 24, allow_inf_nan=False)]
Days = Annotated[float, Field(strict=True, gt=0, le=_LONGEST_DAYS, allow_inf_nan=False)]
Whole = Annotated[int, Field(strict=True)]
Switch = Annotated[bool, Field(strict=True)]
Topic = Literal["APPROVED", "REVIEW", "DROP", "CHANGED", "REVIEWED", "REJECTED", "PROBLEM"]

_UNITS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parse_duration(value: object) -> float:
    """Seconds, from a number or from text such as `90s`, `15m`, `26h`, `2d`.

    Raises:
        ValueError: it is anything else, or more than a hundred years.
    """
    if isinstance(value, str) and (found := re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*([smhd])\s*", value)):
        value = float(found[1]) * _UNITS[found[2]]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ValueError("give a time such as 90s, 15m, 26h or 2d")
    if value > _LONGEST_SECONDS:
        raise ValueError(f"give a time of at most {_LONGEST_DAYS}d")
    return float(value)


Duration = Annotated[float, BeforeValidator(parse_duration)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


_PolicyName = Annotated[str, Field(min_length=1, max_length=64), AfterValidator(_no_secret)]


def _listed(value: object) -> object:
    """A text alone as a list of it."""
    return (value,) if isinstance(value, str) else value


OneOrMore = Annotated[tuple[Text, ...], BeforeValidator(_listed)]


def _group(value: str) -> str:
    if not re.fullmatch(r"\.|\.\.(?:/\.\.)*", value):
        raise ValueError('give "." for the folder that the files lie in, ".." for the one above, and so on')
    return value


class WatchTable(_Table):
    """`[[watch]]`: a folder where trainers leave summaries."""

    path: PathText
    patterns: tuple[Text, ...] = Field(default=("*.json",), min_length=1)
    recursive: Switch = True
    create: Switch = False
    expect_every: Duration | None = None
    policy: _PolicyName = DEFAULT_NAME
    format: Text | None = None
    final: OneOrMore = ()
    models: Literal["all", "best"] = "all"
    group: Annotated[str, AfterValidator(_group)] | None = None


class IntakeTable(_Table):
    """`[intake]`: when a file is ready, and what happens to it afterwards."""

    settle_seconds: Seconds = 2.0
    reject_after_seconds: Seconds = 60.0
    scan_every_seconds: Seconds = 60.0
    max_bytes: Whole = Field(default=64 * 1024 * 1024, gt=0)
    after_archive: Literal["keep", "delete"] = "keep"


class GateTable(_Table):
    """`[gate]`: the thresholds, by the names of `ModelGatingConfig`; what is left out has the calibrated default."""

    approved_min_fitness: Number = 0.70
    approved_min_pf: Number = 1.8
    approved_min_consistency: Number = 0.85
    approved_max_drawdown: Number = 0.08
    review_min_fitness: Number = 0.50
    review_min_pf: Number = 1.3
    review_min_consistency: Number = 0.65
    review_max_drawdown: Number = 0.15
    fitness_decline_threshold: Number = 0.05
    fitness_oscillation_threshold: Number = 0.10

    def thresholds(self) -> ModelGatingConfig:
        """The thresholds as the gate takes them. Raises ValueError if they contradict one another."""
        return ModelGatingConfig(**self.model_dump())


class PolicyGateTable(_Table):
    """`[[policy.gate]]`: one metric and its bounds; see `Gate`."""

    metric: Text
    approve: Number
    review: Number
    better: Literal["higher", "lower"] = "higher"
    label: str = ""
    least: Number | None = None
    most: Number | None = None
    infinity: Literal["", "review"] = ""
    missing: Literal["drop", "review", "ignore"] = "drop"
    flag: str = ""

    def resolved(self) -> Gate:
        """The row that it makes, whatever its bounds are: the policy looks at them all together."""
        return Gate(
            metric=self.metric,
            approve=self.approve,
            review=self.review,
            better=Better(self.better),
            label=self.label,
            **{name: bound for name in ("least", "most") if (bound := getattr(self, name)) is not None},
            infinity=self.infinity,
            missing=Missing(self.missing),
            flag=self.flag,
        )


class PolicyOverrideTable(_Table):
    """`[[policy.override]]`: other bounds for the models whose symbol fits; see `Override`."""

    symbols: tuple[Text, ...] = Field(min_length=1)
    approve: dict[str, Number] = Field(default_factory=dict)
    review: dict[str, Number] = Field(default_factory=dict)


class PolicyTable(_Table):
    """`[[policy]]`: what judges what comes from the folders that name it; see `Policy`."""

    name: _PolicyName
    history: Text | None = None
    better: Literal["higher", "lower"] | None = None
    decline: Number = 0.05
    oscillation: Number = 0.10
    judge_at: Literal["last", "best", "saved"] = "last"
    gate: tuple[PolicyGateTable, ...] = ()
    override: tuple[PolicyOverrideTable, ...] = ()

    def resolved(self) -> Policy:
        """The policy that it makes. Raises PolicyError if it contradicts itself."""
        return Policy(
            gates=tuple(each.resolved() for each in self.gate),
            history=self.history,
            name=self.name,
            better=None if self.better is None else Better(self.better),
            decline=self.decline,
            oscillation=self.oscillation,
            judge_at=JudgeAt(self.judge_at),
            overrides=tuple(Override(each.symbols, each.approve, each.review) for each in self.override),
        )


class FormatMetricTable(_Table):
    """`[[format.metric]]`: what is known of a metric, whoever trains; see `MetricRule`."""

    name: Text
    better: Literal["higher", "lower"] | None = None
    least: Number | None = None
    most: Number | None = None
    sound: Switch = False


class FormatTable(_Table):
    """`[[format]]`: a format of one's own, or the file that holds one; see `Format`."""

    name: Text | None = None
    file: PathText | None = None
    like: Text | None = None
    title: str = ""
    files: tuple[Text, ...] = ()
    reader: str = ""
    program: str = ""
    final: OneOrMore = ()
    last_line: str = ""
    goal: str = ""
    goal_in: str = ""
    together: tuple[Text, ...] = ()
    members: tuple[Text, ...] = ()
    kept: tuple[Text, ...] = ()
    metric: tuple[FormatMetricTable, ...] = ()
    notes: str = ""


_Name = Annotated[
    str,
    Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9 _.-]*$"),
    AfterValidator(_no_secret),  # a name is quoted everywhere
]


class DestinationTable(_Table):
    """`[[notify.destination]]`: somewhere to send digests."""

    name: _Name
    kind: Literal["chat", "file", "webhook"] = "chat"
    path: PathText | None = None
    url: SecretStr | None = Field(default=None, min_length=1)
    url_file: PathText | None = None
    url_credential: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$"), AfterValidator(_no_secret)] | None = None
    secret: SecretStr | None = Field(default=None, min_length=1)
    secret_file: PathText | None = None
    secret_credential: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$"), AfterValidator(_no_secret)] | None = None
    on: tuple[Topic, ...] = Field(default=("APPROVED", "DROP", "REJECTED", "PROBLEM"), min_length=1)
    symbols: tuple[Text, ...] = Field(default=("*",), min_length=1)
    fallback: _Name | None = None
    fallback_after: Duration = 3600.0


class NotifyTable(_Table):
    """`[notify]`: the destinations and how messages to them are bundled."""

    destination: tuple[DestinationTable, ...] = ()
    digest_above: Whole = Field(default=5, ge=1)
    send_timeout_seconds: Seconds = 30.0
    deadline_hours: Hours = 48.0
    keep_delivered_days: Days = 90.0


def _metrics_file(value: str) -> str:
    if not value.endswith(".prom"):
        raise ValueError("node_exporter reads files whose name ends in .prom: give it such a name")
    return value


def _listen(value: str) -> str:
    address_of(value)
    return value


class MetricsTable(_Table):
    """`[metrics]`: figures for Prometheus; none unless they are asked for."""

    file: Annotated[PathText, AfterValidator(_metrics_file)] | None = None
    listen: Annotated[Text, AfterValidator(_listen)] | None = None


class LogTable(_Table):
    """`[log]`: how much is said, and for whom."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "json", "console"] = "auto"


class Settings(_Table):
    """Everything that can be set."""

    archive_dir: PathText = DEFAULT_ARCHIVE
    create_archive: bool = True
    state_dir: PathText | None = None
    watch: tuple[WatchTable, ...] = (WatchTable(path="training_output"),)
    intake: IntakeTable = IntakeTable()
    gate: GateTable = GateTable()
    policy: tuple[PolicyTable, ...] = ()
    format: tuple[FormatTable, ...] = ()
    notify: NotifyTable = NotifyTable()
    metrics: MetricsTable = MetricsTable()
    log: LogTable = LogTable()

    def policies(self) -> Mapping[str, Policy]:
        """Every policy under its name, that of `[gate]` first."""
        resolved = (Policy.from_config(self.gate.thresholds()), *(each.resolved() for each in self.policy))
        return {each.name: each for each in resolved}

    @field_validator("watch")
    @classmethod
    def _watches_something(cls, value: tuple[WatchTable, ...]) -> tuple[WatchTable, ...]:
        if not value:
            raise ValueError("at least one folder must be watched")
        return value
