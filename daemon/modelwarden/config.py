"""The settings: one model, read from a TOML file, the environment and the command line, checked as a whole.

The rule: nothing starts on settings that are not wholly understood. All that is wrong is said in one message, each
with its path and value; a destination's URL is a secret and is never part of a message.
"""

import math
import os
import re
import stat
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from modelwarden.errors import StopService
from modelwarden.gate.policy import ModelGatingConfig

CONFIG_VARIABLE: Final = "MODELWARDEN_CONFIG"
SYSTEM_CONFIG: Final = "/etc/modelwarden/config.toml"


def _path(value: str) -> str:
    if "\0" in value:
        raise ValueError("a path can't hold a zero byte")
    if value.startswith("~"):
        try:
            return str(Path(value).expanduser())
        except RuntimeError as error:
            raise ValueError(str(error)) from None
    return value


PathText = Annotated[str, Field(min_length=1), AfterValidator(_path)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Topic = Literal["APPROVED", "REVIEW", "DROP", "REJECTED", "PROBLEM"]

_UNITS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parse_duration(value: object) -> float:
    """Seconds, from a number or from text such as `90s`, `15m`, `26h`, `2d`. Raises ValueError for anything else."""
    if isinstance(value, str) and (found := re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*([smhd])\s*", value)):
        value = float(found[1]) * _UNITS[found[2]]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ValueError("give a time such as 90s, 15m, 26h or 2d")
    return float(value)


Duration = Annotated[float, BeforeValidator(parse_duration)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class WatchTable(_Table):
    """`[[watch]]`: a folder where trainers leave summaries."""

    path: PathText
    patterns: tuple[str, ...] = Field(default=("*.json",), min_length=1)
    recursive: bool = True
    create: bool = False
    expect_every: Duration | None = None


class IntakeTable(_Table):
    """`[intake]`: when a file is ready, and what happens to it afterwards."""

    settle_seconds: Seconds = 2.0
    reject_after_seconds: Seconds = 60.0
    scan_every_seconds: Seconds = 60.0
    max_bytes: int = Field(default=64 * 1024 * 1024, gt=0)
    after_archive: Literal["keep", "delete"] = "keep"


_NUMBER: Final = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


def _is_number(value: object) -> object:
    """Refuse what pydantic would make a number of: true would be 1.0."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    hint = "write it without quotes" if isinstance(value, str) and _NUMBER.fullmatch(value) else "such as 0.7"
    raise ValueError(f"give a number, {hint}")


Threshold = Annotated[float, BeforeValidator(_is_number)]


class GateTable(_Table):
    """`[gate]`: the thresholds, by the names of `ModelGatingConfig`; what is left out has the calibrated default."""

    approved_min_fitness: Threshold = 0.70
    approved_min_pf: Threshold = 1.8
    approved_min_consistency: Threshold = 0.85
    approved_max_drawdown: Threshold = 0.08
    review_min_fitness: Threshold = 0.50
    review_min_pf: Threshold = 1.3
    review_min_consistency: Threshold = 0.65
    review_max_drawdown: Threshold = 0.15
    fitness_decline_threshold: Threshold = 0.05
    fitness_oscillation_threshold: Threshold = 0.10

    @model_validator(mode="after")
    def _consistent(self) -> "GateTable":
        self.thresholds()
        return self

    def thresholds(self) -> ModelGatingConfig:
        """The thresholds as the gate takes them. Raises ValueError where they contradict one another."""
        return ModelGatingConfig(**self.model_dump())


_Name = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9 _.-]*$")]


class DestinationTable(_Table):
    """`[[notify.destination]]`: somewhere to send digests."""

    name: _Name
    url: SecretStr | None = Field(default=None, min_length=1)
    url_file: PathText | None = None
    url_credential: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_.-]+$")
    on: tuple[Topic, ...] = Field(default=("APPROVED", "DROP", "REJECTED", "PROBLEM"), min_length=1)
    symbols: tuple[str, ...] = Field(default=("*",), min_length=1)
    fallback: _Name | None = None  # what is no name is refused before a message quotes it
    fallback_after: Duration = 3600.0

    @field_validator("url_file")
    @classmethod
    def _is_a_file(cls, value: str | None) -> str | None:
        if value is not None and "://" in value:  # whatever is done with a path, this would show a secret
            raise ValueError("this is a URL: call it url, or name the file that holds it")
        return value

    @model_validator(mode="after")
    def _one_url(self) -> "DestinationTable":
        given = [name for name in ("url", "url_file", "url_credential") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"needs one of url, url_file and url_credential, not {len(given)}")
        return self


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
        for destination in value:
            if destination.fallback is not None and destination.fallback not in set(names) - {destination.name}:
                raise ValueError(f"the fallback of {destination.name} is no other destination: {destination.fallback}")
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

    archive_dir: PathText = "training_archives"
    state_dir: PathText | None = None
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


class _Environment(EnvSettingsSource):
    """The variables. All that a variable can hold is text: what is a number in `[gate]` becomes one here."""

    def __call__(self) -> dict[str, Any]:
        values = super().__call__()
        gate = values.get("gate")
        if isinstance(gate, dict):
            values["gate"] = {
                name: float(value) if isinstance(value, str) and _NUMBER.fullmatch(value) else value
                for name, value in gate.items()
            }
        return values


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

    The command line outranks the environment, the environment the file. Paths in the file are relative to it, all
    others to the current folder; all are returned absolute.

    Raises:
        StopService: the file can't be read, or anything is wrong; one message names everything.
    """
    path = None if watch is not None and given is None else find_config(given)
    document = _read_toml(path) if path is not None else {}
    if path is not None:
        _make_absolute(document, Path(path).resolve().parent)
    typed: dict[str, Any] = {}
    if watch is not None:
        typed["watch"] = [{"path": watch}]
    if archive is not None:
        typed["archive_dir"] = archive

    class FromEverywhere(Settings):
        """The settings with this call's sources."""

        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            del env_settings, dotenv_settings, file_secret_settings
            return init_settings, _Environment(settings_cls), InitSettingsSource(settings_cls, init_kwargs=document)

    try:
        settings: Settings = FromEverywhere(**typed)
    except (ValidationError, SettingsError) as error:
        problems = list(_problems(error)) if isinstance(error, ValidationError) else [_bad_variable(error)]
        raise StopService(
            "\n".join(["the settings are wrong:", *problems, "config.example.toml shows every setting"]),
            where=path or ("command line" if typed else "environment"),
        ) from None
    return _absolute(settings, path), path


def _bad_variable(error: SettingsError) -> str:
    """pydantic-settings names the field; what the variable holds may be a secret and is not repeated."""
    found = re.search(r'field "([^"]+)"', str(error))
    return f"  {found[1] if found else 'a variable'}: the environment's value is not JSON"


def _make_absolute(document: dict[str, Any], base: Path) -> None:
    """Resolve the paths of a file against its folder, where they are paths at all."""

    def resolve(table: Any, name: str) -> None:
        if isinstance(table, dict) and isinstance(table.get(name), str) and table[name][:1] not in {"", "~"}:
            if name == "url_file" and "://" in table[name]:
                return
            table[name] = str(base / table[name])

    notify = document.get("notify")
    destinations = notify.get("destination") if isinstance(notify, dict) else None
    for table in destinations if isinstance(destinations, list) else ():
        resolve(table, "url_file")
    resolve(document, "archive_dir")
    resolve(document, "state_dir")
    watched = document.get("watch")
    for table in watched if isinstance(watched, list) else ():
        resolve(table, "path")


def _absolute(settings: Settings, path: str | None) -> Settings:
    """All paths absolute; refuses a folder that would be watched and written to."""
    archive = os.path.abspath(settings.archive_dir)
    state = None if settings.state_dir is None else os.path.abspath(settings.state_dir)
    watch = tuple(each.model_copy(update={"path": os.path.abspath(each.path)}) for each in settings.watch)
    for number, each in enumerate(watch):
        for name, folder in (("archive_dir", archive), ("state_dir", state)):
            if folder is not None and os.path.realpath(each.path) == os.path.realpath(folder):
                raise StopService(
                    f"watch[{number}].path and {name} are the same folder, {each.path}",
                    where=path or "settings",
                    hint="keep what trainers leave and what is archived apart",
                )
    return settings.model_copy(update={"archive_dir": archive, "state_dir": state, "watch": watch})


def exposed(path: str | None, settings: Settings) -> list[str]:
    """The files that hold a destination's URL, a secret, and that everybody on the host may read."""
    destinations = settings.notify.destination
    urls = [each.url.get_secret_value() for each in destinations if each.url is not None]
    files = [each.url_file for each in destinations if each.url_file is not None]
    if path is not None and urls and any(url in _text_of(path) for url in urls):  # else they are the environment's
        files.insert(0, path)
    return [file for file in dict.fromkeys(files) if _everybody_reads(file)]


def _everybody_reads(path: str) -> bool:
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    return stat.S_ISREG(mode) and bool(mode & 0o004)


def _text_of(path: str) -> str:
    with open(path, encoding="utf-8") as stream:
        return stream.read()


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
        parts = [part if isinstance(part, int) or "://" not in part else "***" for part in problem["loc"]]
        place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts)
        message = problem["msg"].removeprefix("Value error, ")
        yield f"  {place.removeprefix('.') or 'settings'}{_shown(problem['loc'], problem['input'])}: {message}"


_SHOWN_OF_DESTINATIONS: Final = frozenset({"name", "on", "symbols", "fallback", "fallback_after"})


def _shown(place: tuple[int | str, ...], value: object) -> str:
    """` = value`, but for what may be a secret, and for what is no single value."""
    secret = "destination" in place and place[-1] not in _SHOWN_OF_DESTINATIONS
    if secret or isinstance(value, Mapping | list | tuple | BaseModel):
        return ""
    text = repr(value)
    return "" if "://" in text else f" = {text}"
