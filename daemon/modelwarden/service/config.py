"""The settings: one model, read from a TOML file, the environment and the command line, checked as a whole.

The rule: nothing starts on settings that are not wholly understood. All that is wrong is said in one message, each
with its path and value; a destination's URL is a secret and is never part of a message.
"""

import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from modelwarden.errors import StopService
from modelwarden.gate.policy import ModelGatingConfig

CONFIG_VARIABLE: Final = "MODELWARDEN_CONFIG"
SYSTEM_CONFIG: Final = "/etc/modelwarden/config.toml"

Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Topic = Literal["APPROVED", "REVIEW", "DROP", "REJECTED"]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class WatchTable(_Table):
    """`[[watch]]`: a folder where trainers leave summaries."""

    path: str = Field(min_length=1)
    patterns: tuple[str, ...] = Field(default=("*.json",), min_length=1)
    recursive: bool = True
    create: bool = False


class IntakeTable(_Table):
    """`[intake]`: when a file is ready, and what happens to it afterwards."""

    settle_seconds: Seconds = 2.0
    reject_after_seconds: Seconds = 60.0
    scan_every_seconds: Seconds = 60.0
    max_bytes: int = Field(default=64 * 1024 * 1024, gt=0)
    after_archive: Literal["keep", "delete"] = "keep"


class GateTable(_Table):
    """`[gate]`: the thresholds, by the names of `ModelGatingConfig`; what is left out has the calibrated default."""

    approved_min_fitness: float = 0.70
    approved_min_pf: float = 1.8
    approved_min_consistency: float = 0.85
    approved_max_drawdown: float = 0.08
    review_min_fitness: float = 0.50
    review_min_pf: float = 1.3
    review_min_consistency: float = 0.65
    review_max_drawdown: float = 0.15
    fitness_decline_threshold: float = 0.05
    fitness_oscillation_threshold: float = 0.10

    @model_validator(mode="after")
    def _consistent(self) -> "GateTable":
        self.thresholds()
        return self

    def thresholds(self) -> ModelGatingConfig:
        """The thresholds as the gate takes them. Raises ValueError where they contradict one another."""
        return ModelGatingConfig(**self.model_dump())


class DestinationTable(_Table):
    """`[[notify.destination]]`: somewhere to send digests."""

    name: str = Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9 _.-]*$")
    url: SecretStr = Field(min_length=1)
    on: tuple[Topic, ...] = Field(default=("APPROVED", "DROP", "REJECTED"), min_length=1)


class NotifyTable(_Table):
    """`[notify]`: the destinations and how messages to them are bundled."""

    destination: tuple[DestinationTable, ...] = ()
    digest_above: int = Field(default=5, ge=1)
    send_timeout_seconds: Seconds = 30.0
    deadline_hours: Seconds = 48.0

    @field_validator("destination")
    @classmethod
    def _names_differ(cls, value: tuple[DestinationTable, ...]) -> tuple[DestinationTable, ...]:
        names = [destination.name for destination in value]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two destinations are called {', '.join(twice)}: a message is known by that name")
        return value


class LogTable(_Table):
    """`[log]`: how much is said, and for whom."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "json", "console"] = "auto"


class Settings(BaseSettings):
    """Everything that can be set. A variable `MODELWARDEN_LOG__LEVEL` sets `level` of `[log]`, and so on."""

    model_config = SettingsConfigDict(
        env_prefix="MODELWARDEN_",
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        validate_default=True,
    )

    archive_dir: str = Field(default="training_archives", min_length=1)
    state_dir: str | None = Field(default=None, min_length=1)
    watch: tuple[WatchTable, ...] = (WatchTable(path="training_output"),)
    intake: IntakeTable = IntakeTable()
    gate: GateTable = GateTable()
    notify: NotifyTable = NotifyTable()
    log: LogTable = LogTable()

    @field_validator("watch")
    @classmethod
    def _watches_something(cls, value: tuple[WatchTable, ...]) -> tuple[WatchTable, ...]:
        if not value:
            raise ValueError("at least one folder must be watched")
        return value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment outranks the file, which is handed in as initial values."""
        del settings_cls, dotenv_settings, file_secret_settings
        return env_settings, init_settings


def find_config(given: str | None) -> str | None:
    """The config file that counts: the one given, else `$MODELWARDEN_CONFIG`, else /etc's where it exists."""
    if given is not None:
        return given
    if variable := os.environ.get(CONFIG_VARIABLE):
        return variable
    return SYSTEM_CONFIG if os.path.exists(SYSTEM_CONFIG) else None


def load_settings(
    given: str | None = None, *, watch: str | None = None, archive: str | None = None
) -> tuple[Settings, str | None]:
    """Given a config file, or a folder to watch and an archive, return the settings and the file they came from.

    Paths in a file are relative to it, all others to the current folder; all are returned absolute.

    Raises:
        StopService: the file can't be read, or anything in it is wrong; one message names everything.
    """
    path = None if watch is not None and given is None else find_config(given)
    document = _read_toml(path) if path is not None else {}
    base = Path(path).resolve().parent if path is not None else Path.cwd()
    if watch is not None:
        document = document | {"watch": [{"path": str(Path(watch).absolute())}]}
    if archive is not None:
        document = document | {"archive_dir": str(Path(archive).absolute())}
    # The variable that names the file is no setting.
    variable = os.environ.pop(CONFIG_VARIABLE, None)
    try:
        settings = Settings(**document)
    except ValidationError as error:
        raise StopService(
            "the settings are wrong:\n" + "\n".join(_problems(error)),
            where=path or "environment",
            hint="\n`config.example.toml` shows every setting",
        ) from None
    finally:
        if variable is not None:
            os.environ[CONFIG_VARIABLE] = variable
    return _absolute(settings, base), path


def others_can_read(path: str | None, settings: Settings) -> bool:
    """Whether the file holds a destination's URL, a secret, and everybody on the host may read it."""
    return bool(path and settings.notify.destination and os.stat(path).st_mode & 0o004)


def _absolute(settings: Settings, base: Path) -> Settings:
    def resolve(path: str) -> str:
        return os.path.normpath(base / Path(path).expanduser())

    return settings.model_copy(
        update={
            "archive_dir": resolve(settings.archive_dir),
            "state_dir": None if settings.state_dir is None else resolve(settings.state_dir),
            "watch": tuple(each.model_copy(update={"path": resolve(each.path)}) for each in settings.watch),
        }
    )


def _read_toml(path: str) -> dict[str, Any]:
    try:
        with open(path, "rb") as stream:
            return tomllib.load(stream)
    except OSError as error:
        raise StopService(
            f"can't be read ({error.strerror})",
            where=path,
            hint=f"name one with --config or ${CONFIG_VARIABLE}",
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise StopService(f"not TOML: {error}", where=path) from None


def _problems(error: ValidationError) -> Iterator[str]:
    for problem in error.errors(include_url=False, include_context=False):
        place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in problem["loc"])
        message = problem["msg"].removeprefix("Value error, ")
        yield f"  {place.removeprefix('.') or 'settings'}{_shown(problem['loc'], problem['input'])}: {message}"


def _shown(place: tuple[int | str, ...], value: object) -> str:
    """` = value`, but for a URL, which is a secret, and for what is no single value."""
    if "url" in place or isinstance(value, Mapping | list | tuple | BaseModel):
        return ""
    return f" = {value!r}"
