"""Settings come from where they should, are understood as a whole or refused as a whole, and never show a secret."""

import os
import tomllib
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import given as for_any
from hypothesis import strategies as st

from modelwarden.cli.settings import as_toml
from modelwarden.config import GateTable, Settings, load_settings
from modelwarden.config.model import PolicyGateTable, PolicyOverrideTable, PolicyTable
from modelwarden.config.telling import looks_secret
from modelwarden.errors import StopService
from modelwarden.gate.thresholds import ModelGatingConfig

pytestmark = pytest.mark.usefixtures("no_settings")

SECRET = "slack://T0KENA/T0KENB/T0KENC"


@pytest.fixture(autouse=True)
def somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A current folder of its own."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


def written(path: Path, text: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return str(path)


def refusal(path: Path, text: str) -> str:
    """The message with which the settings in the text are refused."""
    with pytest.raises(StopService) as caught:
        load_settings(written(path, text))
    return str(caught.value)


def test_no_settings_at_all_means_defaults_below_the_current_folder(tmp_path: Path) -> None:
    """`modelwarden run` without anything watches ./training_output and archives into ./training_archives."""
    settings, path = load_settings()
    assert path is None
    assert settings.archive_dir == str(tmp_path / "here" / "training_archives")
    assert settings.state_dir is None
    assert [table.path for table in settings.watch] == [str(tmp_path / "here" / "training_output")]
    assert settings.notify.destination == ()


@pytest.mark.parametrize("sources", [["given", "variable", "system"], ["variable", "system"], ["system"]])
def test_settings_come_from_the_first_file_that_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sources: list[str]
) -> None:
    """--config counts, else $MODELWARDEN_CONFIG, else the system's file; files are never mixed."""
    files = {
        name: written(tmp_path / file, f'archive_dir = "/{name}"')
        for name, file in [("given", "a.toml"), ("variable", "b.toml"), ("system", "etc.toml")]
        if name in sources
    }
    if "variable" in files:
        monkeypatch.setenv("MODELWARDEN_CONFIG", files["variable"])
    settings, path = load_settings(files.get("given"))
    assert (settings.archive_dir, path) == (f"/{sources[0]}", files[sources[0]])
    assert os.environ.get("MODELWARDEN_CONFIG") == files.get("variable")


def test_empty_variable_names_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """`MODELWARDEN_CONFIG=` is as good as unset."""
    monkeypatch.setenv("MODELWARDEN_CONFIG", "")
    assert load_settings()[1] is None


@pytest.mark.parametrize("given", ["missing.toml", "."])
def test_file_that_cannot_be_read_is_refused_by_its_name(given: str) -> None:
    """A config that was named and can't be read stops the command: never defaults instead."""
    with pytest.raises(StopService, match="can't be read") as caught:
        load_settings(given)
    assert str(caught.value).startswith(f"{given}: ")


@pytest.mark.parametrize("text", [b"archive_dir = ", b"[watch", b"\xff\xfe", b"a = 1\na = 2"])
def test_file_that_is_not_toml_is_refused_by_its_name(tmp_path: Path, text: bytes) -> None:
    """A file that is no TOML is one message with its path."""
    path = tmp_path / "bad.toml"
    path.write_bytes(text)
    with pytest.raises(StopService, match="not TOML") as caught:
        load_settings(str(path))
    assert str(caught.value).startswith(f"{path}: ")


def test_relative_paths_in_a_file_are_relative_to_it(tmp_path: Path) -> None:
    """A config can be moved with what it names; all paths come back absolute."""
    path = written(
        tmp_path / "etc" / "config.toml",
        'archive_dir = "archive"\nstate_dir = "../state"\n[[watch]]\npath = "./out//x"\n[[watch]]\npath = "/abs"\n',
    )
    for given in (path, "../etc/config.toml"):
        settings, _ = load_settings(given)
        assert settings.archive_dir == str(tmp_path / "etc" / "archive")
        assert settings.state_dir == str(tmp_path / "state")
        assert [table.path for table in settings.watch] == [str(tmp_path / "etc" / "out" / "x"), "/abs"]


def test_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`~` means in a config what it means in a shell."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    settings, _ = load_settings(written(tmp_path / "config.toml", 'archive_dir = "~/archive"'))
    assert settings.archive_dir == str(tmp_path / "home" / "archive")


def test_environment_outranks_the_file_setting_by_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable replaces its own setting and leaves the rest of its table alone."""
    path = written(tmp_path / "config.toml", '[intake]\nsettle_seconds = 5\nmax_bytes = 10\n[log]\nlevel = "debug"\n')
    monkeypatch.setenv("MODELWARDEN_INTAKE__SETTLE_SECONDS", "0.5")
    monkeypatch.setenv("MODELWARDEN_WATCH", '[{"path": "/elsewhere"}]')
    settings, _ = load_settings(path)
    assert settings.intake.settle_seconds == 0.5
    assert settings.intake.max_bytes == 10
    assert settings.log.level == "debug"
    assert [table.path for table in settings.watch] == ["/elsewhere"]


def test_relative_path_in_the_environment_is_below_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only what stands in the file is relative to the file."""
    monkeypatch.setenv("MODELWARDEN_ARCHIVE_DIR", "archive")
    settings, _ = load_settings(written(tmp_path / "etc" / "config.toml", 'archive_dir = "other"'))
    assert settings.archive_dir == str(tmp_path / "here" / "archive")


def test_command_line_outranks_the_file(tmp_path: Path) -> None:
    """--watch and --archive replace what the file says, relative to the current folder."""
    path = written(tmp_path / "etc" / "config.toml", 'archive_dir = "a"\n[[watch]]\npath = "b"\n[log]\nlevel = "error"')
    settings, _ = load_settings(path, watch="out", archive="archive")
    assert settings.archive_dir == str(tmp_path / "here" / "archive")
    assert [table.path for table in settings.watch] == [str(tmp_path / "here" / "out")]
    assert settings.log.level == "error"


def test_command_line_outranks_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a person types counts more than what a shell profile set long ago."""
    monkeypatch.setenv("MODELWARDEN_ARCHIVE_DIR", "/from/environment")
    monkeypatch.setenv("MODELWARDEN_WATCH", '[{"path": "/from/environment"}]')
    settings, _ = load_settings(watch="out", archive="archive")
    assert settings.archive_dir == str(tmp_path / "here" / "archive")
    assert [table.path for table in settings.watch] == [str(tmp_path / "here" / "out")]


def test_watch_on_the_command_line_needs_no_file_and_takes_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`run --watch DIR --archive DIR` is the whole setting: a file that lies about does not add destinations."""
    monkeypatch.setenv("MODELWARDEN_CONFIG", written(tmp_path / "b.toml", "[log]\nlevel = 'error'"))
    written(tmp_path / "etc.toml", "[log]\nlevel = 'error'")
    settings, path = load_settings(watch="out", archive="archive")
    assert path is None
    assert settings.log.level == "info"


@pytest.mark.parametrize(("watch", "archive"), [("", "a"), ("w", "")])
def test_empty_folder_on_the_command_line_is_refused(watch: str, archive: str) -> None:
    """`--watch "$UNSET"` is a mistake, not the current folder."""
    with pytest.raises(StopService):
        load_settings(watch=watch, archive=archive)


@pytest.mark.parametrize("table", ["", "[intake]", "[gate]", "[notify]", "[log]", "[[watch]]\npath = 'x'"])
def test_unknown_setting_is_refused_in_every_table(tmp_path: Path, table: str) -> None:
    """A misspelt setting never silently leaves the default in force."""
    assert "lebel: there is no such setting" in refusal(tmp_path / "config.toml", f"{table}\nlebel = 'x'")


def test_misspelt_variable_of_a_table_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A misspelt setting in the environment is told like one in a file."""
    monkeypatch.setenv("MODELWARDEN_LOG__LEVL", "debug")
    with pytest.raises(StopService, match=r"environment: .*\n  MODELWARDEN_LOG__LEVL: .* mean MODELWARDEN_LOG__LEVEL"):
        load_settings()


@pytest.mark.parametrize("name", ["MODELWARDEN_WATCH", "MODELWARDEN_NOTIFY", "MODELWARDEN_NOTIFY__DESTINATION"])
def test_variable_of_a_list_that_holds_no_json_is_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A list in the environment is JSON; anything else is one message, which does not repeat it."""
    monkeypatch.setenv(name, f'[{{"name": "a", "url": "{SECRET}"')
    with pytest.raises(StopService) as caught:
        load_settings()
    assert "T0KEN" not in str(caught.value)


def test_no_watched_folder_at_all_is_refused(tmp_path: Path) -> None:
    """A daemon that watches nothing was not meant."""
    assert "watch: at least one folder must be watched" in refusal(tmp_path / "config.toml", "watch = []")


LEAKS = {
    "url that is a list": f"[[notify.destination]]\nname = 'a'\nurl = ['{SECRET}']",
    "url that is empty beside a good one": (
        f"[[notify.destination]]\nname = 'a'\nurl = '{SECRET}'\n[[notify.destination]]\nname = 'b'\nurl = ''"
    ),
    "good url beside another mistake": f"[[notify.destination]]\nname = 'a'\nurl = '{SECRET}'\non = ['LATER']",
    "two destinations of one name": f"[[notify.destination]]\nname = 'a'\nurl = '{SECRET}'\n" * 2,
    "url in the wrong table": f"[notify]\nurl = '{SECRET}'",
    "misspelt url": f"[[notify.destination]]\nname = 'a'\nurls = '{SECRET}'",
    "url in the place of the name": f"[[notify.destination]]\nname = '{SECRET}'\nurl = '{SECRET}'",
    "url in the place of the topics": f"[[notify.destination]]\nname = 'a'\nurl = '{SECRET}'\non = '{SECRET}'",
    "url in a list of topics": f"[[notify.destination]]\nname = 'a'\nurl = '{SECRET}'\non = ['{SECRET}']",
    "url in the place of the table": f"[notify]\ndestination = '{SECRET}'",
    "url in a list of destinations": f"[notify]\ndestination = ['{SECRET}']",
    "url at the top": f"slack = '{SECRET}'",
}


@pytest.mark.parametrize("text", LEAKS.values(), ids=LEAKS)
def test_no_message_shows_a_url(tmp_path: Path, text: str) -> None:
    """A destination's URL holds a token, and messages end up in logs and chats: wherever it was written by mistake."""
    assert "T0KEN" not in refusal(tmp_path / "config.toml", text)


def test_settings_do_not_show_a_url(tmp_path: Path) -> None:
    """Settings that are printed or logged hide the URL."""
    text = f"[[notify.destination]]\nname = 'a'\nurl = '{SECRET}'"
    settings, _ = load_settings(written(tmp_path / "config.toml", text))
    assert "T0KEN" not in repr(settings) + str(settings) + settings.model_dump_json()
    url = settings.notify.destination[0].url
    assert url is not None
    assert url.get_secret_value() == SECRET


def test_two_destinations_of_one_name_are_refused(tmp_path: Path) -> None:
    """A message is known by its destination's name."""
    text = "[[notify.destination]]\nname = 'team'\nurl = 'json://a'\n" * 2
    assert "lines 2 and 5: notify.destination[1].name: also the name of" in refusal(tmp_path / "config.toml", text)


@pytest.mark.parametrize("extra", ['archive_dir = "out"', 'archive_dir = "archive"\nstate_dir = "out"'])
def test_watched_folder_that_is_the_archive_or_the_state_is_refused(tmp_path: Path, extra: str) -> None:
    """The archive is never scanned, so a daemon that watches it would sit there for ever: said at start, both named."""
    message = refusal(tmp_path / "config.toml", f'{extra}\n[[watch]]\npath = "out"\n')
    assert "watch[0].path: the same folder as " in message


@pytest.mark.parametrize("where", ["a_file", "a_file/below", "a_file/far/below"])
@pytest.mark.parametrize("line", ['archive_dir = "{}"', 'state_dir = "{}"', '[[watch]]\npath = "{}"'])
def test_file_in_the_way_of_a_folder_is_refused(tmp_path: Path, line: str, where: str) -> None:
    """Also if it is a part of the path: no such folder can ever be made, and the file is named."""
    (tmp_path / "a_file").touch()
    message = refusal(tmp_path / "config.toml", line.format(where))
    assert f"{tmp_path / 'a_file'} is a file: name " in message


@pytest.mark.parametrize("line", ['archive_dir = "~nobody-of-that-name/a"', '[[watch]]\npath = "~nobody-of-that-name"'])
def test_home_of_an_unknown_user_is_refused(tmp_path: Path, line: str) -> None:
    """A `~name` that nobody has is one message, not a traceback."""
    assert "~nobody-of-that-name" in refusal(tmp_path / "config.toml", line)


@pytest.mark.parametrize(
    "line", [r'archive_dir = "a\u0000b"', r'state_dir = "a\u0000b"', '[[watch]]\npath = "a\\u0000b"']
)
def test_path_with_a_zero_byte_is_refused(tmp_path: Path, line: str) -> None:
    """A path that no system call takes is refused with the settings, not at the first use."""
    refusal(tmp_path / "config.toml", line)


def test_thresholds_of_the_settings_are_those_of_the_gate() -> None:
    """`[gate]` has every threshold by its name in the Python API, with the same default."""
    assert GateTable().model_dump() == asdict(ModelGatingConfig())


@pytest.mark.parametrize("name", asdict(ModelGatingConfig()))
def test_each_threshold_reaches_the_gate(tmp_path: Path, name: str) -> None:
    """A threshold set in the file is the one that judges, and it alone is another."""
    strictest = {"review_min_consistency": 0.85, "review_max_drawdown": 0.08, "approved_max_drawdown": 0.07}
    value = strictest.get(name, {"review_min_fitness": 0.7, "review_min_pf": 1.8}.get(name, 0.95))
    if name == "approved_min_pf":
        value = 2.0
    settings, _ = load_settings(written(tmp_path / "config.toml", f"[gate]\n{name} = {value}"))
    assert asdict(settings.gate.thresholds()) == asdict(ModelGatingConfig()) | {name: value}


def test_review_bound_stricter_than_the_approve_bound_is_refused_with_both(tmp_path: Path) -> None:
    """A policy that contradicts itself is named with both settings and both values, every pair of it."""
    message = refusal(
        tmp_path / "config.toml", "[gate]\napproved_min_fitness = 0.4\napproved_max_drawdown = 0.3\n[log]\nlevel = 'x'"
    )
    assert "review_min_fitness = 0.5 is stricter than approved_min_fitness = 0.4" in message
    assert "review_max_drawdown = 0.15 is stricter than approved_max_drawdown = 0.3" in message
    assert "log.level: " in message


@pytest.mark.parametrize("value", ["true", "false", "'0.9'", "'high'", "[0.9]"])
def test_threshold_that_is_no_number_is_refused(tmp_path: Path, value: str) -> None:
    """`true` is not 1.0: a gate is never opened by a slip."""
    message = refusal(tmp_path / "config.toml", f"[gate]\nreview_max_drawdown = {value}")
    assert "gate.review_max_drawdown" in message
    assert "number" in message


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("MODELWARDEN_GATE__REVIEW_MAX_DRAWDOWN", "true"),
        ("MODELWARDEN_GATE__REVIEW_MAX_DRAWDOWN", "1_0"),
        ("MODELWARDEN_GATE__REVIEW_MAX_DRAWDOWN", ""),
        ("MODELWARDEN_GATE", '{"review_max_drawdown": true}'),
    ],
)
def test_threshold_of_a_variable_that_is_no_number_is_refused(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    """The environment opens the gate by a slip no more than a file does."""
    monkeypatch.setenv(variable, value)
    with pytest.raises(StopService, match="review_max_drawdown"):
        load_settings(os.devnull)


@pytest.mark.parametrize("value", ["0.3", ".3", "3e-1", "+0.30"])
def test_threshold_of_a_variable_that_is_a_number_counts(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """A variable holds text; a number in it is a number."""
    monkeypatch.setenv("MODELWARDEN_GATE__REVIEW_MAX_DRAWDOWN", value)
    settings, _ = load_settings(os.devnull)
    assert settings.gate.review_max_drawdown == 0.3


@pytest.mark.parametrize(
    ("name", "value"),
    [("review_max_drawdown", 15), ("fitness_decline_threshold", 5.0), ("approved_min_consistency", 85)],
)
def test_percentage_where_a_fraction_belongs_is_refused_with_the_hint(tmp_path: Path, name: str, value: float) -> None:
    """8 for 8 % would let every drawdown pass."""
    message = refusal(tmp_path / "config.toml", f"[gate]\n{name} = {value}")
    assert f"{name} = {float(value)} is outside 0..1: is it a percentage?" in message


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_threshold_that_is_no_finite_number_is_refused(tmp_path: Path, value: str) -> None:
    """TOML can write nan, and every comparison with it is false: such a gate would judge nothing."""
    message = refusal(tmp_path / "config.toml", f"[gate]\napproved_min_pf = {value}")
    assert f"line 2: gate.approved_min_pf: give a number that is finite, not {value}" in message


def test_message_ends_with_what_to_do(tmp_path: Path) -> None:
    """The hint stands on a line of its own below the problems, and names what every installation has."""
    lines = refusal(tmp_path / "config.toml", "[log]\nlevel = 'x'").splitlines()
    assert lines[-1] == "`modelwarden config example` prints every setting"
    assert lines[-2].startswith("  line 2: log.level: ")


def test_last_problem_ends_like_the_others(tmp_path: Path) -> None:
    """The last problem's line does not trail off in a colon."""
    assert not refusal(tmp_path / "config.toml", "[log]\nlevel = 'x'").splitlines()[-2].endswith(": ")


def test_settings_cannot_be_changed() -> None:
    """What was checked is what is used."""
    settings, _ = load_settings()
    with pytest.raises(ValueError, match="frozen"):
        settings.archive_dir = "elsewhere"
    assert isinstance(settings, Settings)


@pytest.mark.parametrize("key", ["url_file", "url_credential"])
def test_url_in_the_wrong_place_is_refused_without_being_shown(tmp_path: Path, key: str) -> None:
    """A path or a name would be quoted in messages: a URL is neither."""
    message = refusal(tmp_path / "c.toml", f'[[notify.destination]]\nname = "team"\n{key} = "{SECRET}"\n')
    assert f"notify.destination[0].{key}: " in message
    assert "T0KEN" not in message


@pytest.mark.parametrize(
    "line",
    [
        f'"{SECRET}" = 5',
        f'fallback = "{SECRET}"',
        f'fallback_after = "{SECRET}"',
        f'on = ["{SECRET}"]',
        f'symbols = "{SECRET}"',
        f'urls = "{SECRET}"',
        f'url_file = ["{SECRET}"]',
        f'log = {{"{SECRET}" = 1}}',
    ],
)
def test_url_that_stands_anywhere_is_not_quoted(tmp_path: Path, line: str) -> None:
    """As a key, a fallback or whatever a hand may slip to: the place is named, the URL is not."""
    message = refusal(tmp_path / "c.toml", f'[[notify.destination]]\nname = "team"\nurl = "{SECRET}"\n{line}\n')
    assert "notify.destination[0]" in message
    assert "T0KEN" not in message


def test_url_as_a_destination_s_name_is_not_quoted(tmp_path: Path) -> None:
    """A name is quoted everywhere: one that is a URL is refused without being."""
    message = refusal(tmp_path / "c.toml", f'[[notify.destination]]\nname = "{SECRET}"\nurl = "{SECRET}"\n')
    assert "notify.destination[0].name" in message
    assert "T0KEN" not in message


names = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=20).filter(
    lambda name: not looks_secret(name)  # such a metric is refused
)


@for_any(st.lists(names, min_size=1, max_size=3, unique=True), st.floats(0, 1e9), st.floats(-1e9, 0))
def test_policy_survives_toml_both_ways(metrics: list[str], approve: float, review: float) -> None:
    """As `config show` prints it, whatever its metrics are called."""
    table = PolicyTable(
        name="mine",
        history=metrics[0],
        gate=tuple(PolicyGateTable(metric=each, approve=approve, review=review, missing="ignore") for each in metrics),
        override=(PolicyOverrideTable(symbols=("A*",), approve={metrics[-1]: approve + 1}),),
    )
    text = "\n".join(as_toml({"policy": [table.model_dump(mode="json")]}))
    (again,) = tomllib.loads(text)["policy"]
    assert PolicyTable.model_validate(again) == table
    assert PolicyTable.model_validate(again).resolved().id == table.resolved().id
