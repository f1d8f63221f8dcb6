"""config.example.toml is the documentation of the settings: it loads, leaves nothing out, and its defaults are true."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel, SecretStr

from modelwarden.config import DestinationTable, Settings, WatchTable, known_formats, load_settings
from modelwarden.config.places import state_dir_of
from modelwarden.formats.description import MetricRule
from modelwarden.gate.gates import Better, Gate, Override
from modelwarden.gate.policy import Policy
from processes import modelwarden

pytestmark = pytest.mark.usefixtures("no_settings")

EXAMPLE = Path(__file__).parents[2] / "config.example.toml"
SETTING = re.compile(r"# (?P<name>\w+) = (?P<value>.+)")
TABLE = re.compile(r"(?:# )?(?P<header>\[\[?(?P<table>[\w.]+)\]\]?)\s*")


def lines() -> list[str]:
    return EXAMPLE.read_text(encoding="utf-8").splitlines()


def commented() -> Iterator[tuple[str, str]]:
    """The table and the name of every commented-out setting."""
    table = ""
    for line in lines():
        if header := TABLE.fullmatch(line):
            table = header["table"]
        elif setting := SETTING.match(line):
            yield table, setting["name"]


def uncommented(*wanted: tuple[str, str]) -> str:
    """The example with these settings, and the tables that they stand in, commented in."""
    table, text = "", []
    for line in lines():
        if header := TABLE.fullmatch(line):
            table = header["table"]
            wakes = any(each == table for each, _ in wanted)
            text.append(header["header"] if wakes else line)
        elif (setting := SETTING.match(line)) and (table, setting["name"]) in wanted:
            text.append(line.removeprefix("# "))
        else:
            text.append(line)
    return "\n".join(text)


def loaded(folder: Path, text: str) -> Settings:
    path = folder / "config.toml"
    path.write_text(text, encoding="utf-8")
    return load_settings(str(path))[0]


def value_at(settings: Settings, table: str, name: str) -> Any:
    place: Any = settings
    for part in filter(None, table.split(".")):
        place = getattr(place, part)
        place = place[0] if isinstance(place, tuple) else place
    return getattr(place, name)


def fields_of(model: type[BaseModel], table: str = "") -> Iterator[tuple[str, str]]:
    """The table and the name of every setting of the model, tables within tables included."""
    for name, field in model.model_fields.items():
        inner = [each for each in (field.annotation, *get_args(field.annotation)) if isinstance(each, type)]
        tables = [each for each in inner if issubclass(each, BaseModel)]
        if tables:
            yield from fields_of(tables[0], f"{table}.{name}".removeprefix("."))
        else:
            yield table, name


def test_example_loads_as_it_stands(tmp_path: Path) -> None:
    """Copied and used without a change it is a working configuration without destinations."""
    settings = loaded(tmp_path, EXAMPLE.read_text(encoding="utf-8"))
    assert settings.archive_dir == str(tmp_path / "training_archives")
    assert [table.path for table in settings.watch] == [str(tmp_path / "training_output")]
    assert settings.notify.destination == ()


def test_example_differs_from_the_defaults_only_where_uncommented() -> None:
    """What stands in the example uncommented is what a first user needs; all the rest is as without a file."""
    plain = tomllib.loads(EXAMPLE.read_text(encoding="utf-8"))
    plain["watch"][0].pop("create")
    assert plain == {
        "archive_dir": Settings.model_fields["archive_dir"].default,
        "watch": [{"path": Settings.model_fields["watch"].default[0].path}],
        **{table: {} for table in ("intake", "gate", "notify", "metrics", "log")},
    }


SHOWN_ONLY = {
    # A setting without a default: what stands there is an example.
    ("notify.destination", "name"),
    ("notify.destination", "fallback"),
    # Of the other kinds of destination.
    ("notify.destination", "path"),
    ("notify.destination", "secret"),
    ("notify.destination", "secret_file"),
    ("notify.destination", "secret_credential"),
    ("watch", "expect_every"),
    ("metrics", "file"),
    ("metrics", "listen"),
    # All of a policy is an example; see below.
    *(each for each in commented() if each[0].startswith("policy")),
    # Likewise of a format.
    ("watch", "format"),
    ("watch", "group"),
    ("watch", "final"),
    *(each for each in commented() if each[0].startswith("format")),
    # Instead of `url`, whose line stands above them.
    ("notify.destination", "url_file"),
    ("notify.destination", "url_credential"),
}


@pytest.mark.parametrize(("table", "name"), sorted(set(commented()) - SHOWN_ONLY))
def test_commented_setting_is_accepted_and_is_the_default(tmp_path: Path, table: str, name: str) -> None:
    """A comment that shows a default shows the true one, and commenting it in changes nothing."""
    needed = [("notify.destination", "name"), ("notify.destination", "url")] if table == "notify.destination" else []
    settings = loaded(tmp_path, uncommented((table, name), *needed))
    value = value_at(settings, table, name)
    if table == "notify.destination":
        default = DestinationTable(name="x", url=SecretStr("x"))
        assert name == "url" or value == getattr(default, name)
    elif name == "state_dir":
        assert value == state_dir_of(settings.archive_dir, None)
    else:
        assert value == value_at(Settings(watch=(WatchTable(path="x"),)), table, name)


@pytest.mark.parametrize("name", ["url_file", "url_credential"])
def test_other_place_of_a_url_is_accepted_instead_of_it(tmp_path: Path, name: str) -> None:
    """One of the three, and it is known by its name."""
    settings = loaded(tmp_path, uncommented(("notify.destination", "name"), ("notify.destination", name)))

    assert settings.notify.destination[0].url is None
    assert getattr(settings.notify.destination[0], name).endswith("team" if name == "url_credential" else "team.url")


def test_expectation_and_fallback_are_read_as_they_are_shown(tmp_path: Path) -> None:
    """Times are written as people write them."""
    shown = [("watch", "expect_every"), *(("notify.destination", name) for name in ("name", "url", "fallback"))]
    text = uncommented(*shown).replace("[log]", '[[notify.destination]]\nname = "mail"\nurl = "json://b"\n[log]')
    settings = loaded(tmp_path, text)

    assert settings.watch[0].expect_every == 26 * 3600
    assert settings.notify.destination[0].fallback == "mail"


def test_policy_is_read_as_it_is_shown(tmp_path: Path) -> None:
    """The example judges language models, and what it says of defaults is true."""
    text = uncommented(*(each for each in commented() if each[0].startswith("policy")))
    (table,) = loaded(tmp_path, text.replace('# policy = "default"', 'policy = "language models"')).policy
    (gate,) = table.resolved().gates
    assert gate == Gate("eval_loss", 0.35, 0.50, Better.LOWER, least=0.0, most=100.0)
    assert (gate.label, gate.flag) == ("eval loss", "HIGH_EVAL_LOSS")
    assert table.resolved() == Policy(
        gates=(gate,),
        history="eval_loss",
        name="language models",
        better=Better.LOWER,
        overrides=(Override(("tiny-*",), {"eval_loss": 0.45}, {"eval_loss": 0.60}),),
    )


def test_format_is_read_as_it_is_shown(tmp_path: Path) -> None:
    """A folder that names it has its files; what is not said is the other format's."""
    instead = {("format", "file"), ("format", "together")}
    text = uncommented(*(each for each in commented() if each[0].startswith("format") and each not in instead))
    text = text.replace('# format = "hf-trainer"', 'format = "our-trainer"').replace("# final", "final")
    settings = loaded(tmp_path, text)
    assert settings.watch[0].patterns == ("runs/*/log.json",)
    ours = known_formats(settings).formats["our-trainer"]
    assert (ours.title, ours.reader, ours.kept) == ("Our trainer", "json", ("checkpoints/{}.pt",))
    assert ours.metrics == (MetricRule("*loss", Better.LOWER, 0.0, 100.0),)


def test_every_setting_of_the_model_is_in_the_example() -> None:
    """Nothing can be set that the example does not show, in the table where it belongs."""
    shown, table = set(commented()), ""
    for line in lines():
        if header := TABLE.fullmatch(line):
            table = header["table"]
        elif (name := re.match(r"(\w+) = ", line)) is not None:
            shown.add((table, name[1]))
    assert set(fields_of(Settings)) == shown


def test_everything_commented_in_at_once_is_accepted(tmp_path: Path) -> None:
    """All of the example together is one valid configuration, its destination one that Apprise understands."""
    path = tmp_path / "config.toml"
    others = ("url_file", "url_credential", "fallback", "path", "secret", "secret_file", "secret_credential")
    instead = {("notify.destination", name) for name in others}
    instead |= {("watch", "format"), ("watch", "final"), ("watch", "group"), ("format", "file"), ("format", "together")}
    path.write_text(uncommented(*set(commented()) - instead), encoding="utf-8")
    path.chmod(0o600)
    result = modelwarden("config", "check", path)
    assert (result.returncode, result.stderr) == (0, "")
    assert "team" in result.stdout


def test_example_names_every_choice() -> None:
    """Where a setting is one of a few words, all of them stand on its line."""
    text = {setting["name"]: line for line in lines() if (setting := SETTING.match(line))}
    for name, words in {
        "after_archive": ("keep", "delete"),
        "level": ("debug", "info", "warning", "error"),
        "format": ("auto", "json", "console"),
        "judge_at": ("last", "best"),
        "missing": ("drop", "review", "ignore"),
        "on": ("APPROVED", "REVIEW", "DROP", "REJECTED"),
    }.items():
        assert all(word in text[name] for word in words), text[name]
