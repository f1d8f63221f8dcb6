"""`reindex` makes what is derived again from the truth; `config check` tells what the settings come to."""

import json
import re
import shutil
import sqlite3
import tomllib
from contextlib import closing
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from answers import answer
from commands import command
from modelwarden import TrainingArchiveManager
from modelwarden.config import load_settings
from modelwarden.state.database import Database
from processes import modelwarden
from summaries import GOOD, flat_summary

SECRET = "slack://T0KENA/T0KENB/T0KENC"


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    folder = tmp_path / "archive"
    with TrainingArchiveManager(folder) as manager:
        for day in (1, 2, 3):
            manager.archive_training_run(flat_summary({f"S{day}": GOOD}, timestamp=f"2024010{day}_000000"))
    return folder


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    path.chmod(0o600)
    return path


@pytest.mark.parametrize(
    "damage", ["none", "deleted", "a line less", "a wrong count", b"", b"garbage", b'{"schema_version": 1, "runs": []}']
)
def test_reindex_writes_the_index_byte_for_byte_whatever_it_was(archive: Path, damage: bytes | str) -> None:
    """Good, empty, wrong or gone: after `reindex` the index is what the archive says."""
    index = archive / "index.json"
    before = index.read_bytes()
    if damage == "deleted":
        index.unlink()
    elif damage == "a line less":
        index.write_bytes(b"".join(line for line in before.splitlines(keepends=True) if b"20240102" not in line))
    elif damage == "a wrong count":
        index.write_bytes(before.replace(b'"approved_count":1', b'"approved_count":7'))
        assert index.read_bytes() != before
    elif isinstance(damage, bytes):
        index.write_bytes(damage)
    done = command("reindex", "--archive", archive)
    assert (done.code, done.err) == (0, "")
    assert done.out == f"3 runs in {archive}/index.json and in the catalog\n"
    assert index.read_bytes() == before


def test_reindex_forgets_what_is_gone_and_finds_what_came(archive: Path) -> None:
    """The folders are the truth: a run that was deleted leaves the index and the catalog."""
    shutil.rmtree(archive / "20240102_000000")
    assert command("reindex", "--archive", archive).out.startswith("2 runs ")
    assert b"20240102" not in (archive / "index.json").read_bytes()
    assert command("history", "S2", "--archive", archive).code == 2


def test_reindex_without_a_state_file_makes_one(archive: Path) -> None:
    """A lost state is made again from the archive."""
    shutil.rmtree(archive / ".state")
    assert command("reindex", "--archive", archive).code == 0
    assert command("approved", "20240101_000000", "--archive", archive).out == "S1\tlast\n"


def test_reindex_puts_a_catalog_right_that_says_something_else(archive: Path) -> None:
    """The catalog is made again row for row, whatever its rows say."""
    with closing(sqlite3.connect(archive / ".state" / "modelwarden.sqlite", isolation_level=None)) as connection:
        connection.execute("UPDATE all_runs SET approved_count = 7")
        connection.execute("UPDATE assessments SET symbol = 'X'")
    assert command("reindex", "--archive", archive).code == 0
    assert [
        row["approved_count"] for row in json.loads(command("runs", "--json", "--archive", archive).out)["runs"]
    ] == [
        1,
        1,
        1,
    ]
    assert command("approved", "--archive", archive).out == "S3\tlast\n"


def test_reindex_leaves_foreign_folders_alone(archive: Path) -> None:
    """What people put into an archive stays, and is no run."""
    (archive / "notes").mkdir()
    (archive / "20240104_000000").mkdir()
    (archive / "20240104_000000" / "mine.txt").write_text("mine")
    assert command("reindex", "--archive", archive).out.startswith("3 runs ")
    assert (archive / "20240104_000000" / "mine.txt").read_text() == "mine"


def test_config_check_prints_what_the_settings_come_to(tmp_path: Path) -> None:
    """A person sees the resolved folders and the policy before anything is started."""
    path = written(tmp_path / "c.toml", 'archive_dir = "a"\n[[watch]]\npath = "out"\npatterns = ["*.json", "*.jsn"]\n')
    done = command("config", "check", path)
    assert (done.code, done.err) == (0, "")
    assert done.lines[0] == f"{path}: right"
    values = dict(line.split(maxsplit=1) for line in done.lines[3:])
    assert values["watch"] == f"{tmp_path}/out (*.json, *.jsn)"
    assert values["archive_dir"] == f"{tmp_path}/a"
    assert values["state_dir"] == f"{tmp_path}/a/.state"
    assert len(values["policy"]) == 8


def test_config_check_takes_the_file_as_other_commands_do(tmp_path: Path) -> None:
    """As an argument or with --config, it is the same question."""
    path = written(tmp_path / "c.toml", "")
    assert command("config", "check", path) == command("config", "check", "--config", path)


def test_config_check_changes_nothing(tmp_path: Path) -> None:
    """Checking makes no folder, not even one that `create` asks for."""
    path = written(tmp_path / "c.toml", 'archive_dir = "a"\n[[watch]]\npath = "out"\ncreate = true\n')
    command("config", "check", path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["c.toml"]


def test_config_check_names_all_that_is_wrong(tmp_path: Path) -> None:
    """Exit code 2, nothing on standard output, every problem in one message."""
    path = written(tmp_path / "c.toml", 'archive_dir = 3\n[log]\nlevel = "loud"\n[gate]\nreview_min_pf = 9\n')
    done = command("config", "check", path)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"modelwarden: {path}: ")
    assert all(each in done.err for each in ("1: archive_dir: ", "3: log.level: ", "5: gate.review_min_pf: "))


def test_config_check_refuses_a_url_without_showing_it(tmp_path: Path) -> None:
    """What Apprise does not understand is no destination: it is named, its URL is not."""
    text = '[[notify.destination]]\nname = "team"\nurl = "nosuchservice://T0KENA/T0KENB"\n'
    result = modelwarden("config", "check", written(tmp_path / "c.toml", text))
    assert result.returncode == 2
    assert 'destination "team"' in result.stderr
    assert "T0KEN" not in result.stdout + result.stderr


def test_config_check_shows_destinations_without_their_urls(tmp_path: Path) -> None:
    """Who is told of what, and no secret; a file with a secret that everybody may read is remarked on."""
    path = written(tmp_path / "c.toml", f'[[notify.destination]]\nname = "team"\nurl = "{SECRET}"\non = ["REVIEW"]\n')
    path.chmod(0o644)
    result = modelwarden("config", "check", path)
    assert result.returncode == 0
    assert "team: REVIEW" in result.stdout
    assert "T0KEN" not in result.stdout + result.stderr
    assert f"everybody can read it: chmod 640 {path}\n" in result.stderr


MAIL = "mailto://warden:T0KENA@mail.example.com?to=a@example.org"


@pytest.mark.delivery
@pytest.mark.parametrize("url", [f"{MAIL},b@example.org", f"{MAIL}&cc=b@example.org", f"{MAIL}&bcc=b@example.org"])
def test_config_check_refuses_a_mail_to_several(tmp_path: Path, url: str) -> None:
    """By the destination's name, with what to do, and without the URL; `run` refuses it alike."""
    path = written(tmp_path / "c.toml", f'[[notify.destination]]\nname = "the desk"\nurl = "{url}"\n')
    for words in (("config", "check", path), ("run", "--once", "--config", path)):
        result = modelwarden(*words, cwd=tmp_path)
        assert result.returncode == 2
        assert 'destination "the desk": its URL names several recipients' in result.stderr
        assert "give each recipient a destination of its own" in result.stderr
        assert "T0KEN" not in result.stdout + result.stderr
        assert not re.search(r"example\.(?:com|org)", (result.stdout + result.stderr).replace("name@example.com", ""))


def test_config_check_remarks_on_mail_that_goes_unencrypted(tmp_path: Path) -> None:
    """It works, so it is right; but who set it up should know. The courier says so at its start."""
    path = written(tmp_path / "c.toml", f'archive_dir = "a"\n[[notify.destination]]\nname = "desk"\nurl = "{MAIL}"\n')
    path.chmod(0o600)
    checked = modelwarden("config", "check", path)
    assert checked.returncode == 0
    assert checked.stderr.startswith('modelwarden: destination "desk": its mail and its password cross the network')
    assert "mailtos://" in checked.stderr
    Database(str(tmp_path / "a" / ".state"), "").close()
    started = modelwarden("courier", "--drain", "--config", path)
    warned = [json.loads(line) for line in started.stderr.splitlines() if "mail_not_encrypted" in line]
    assert [(each["level"], each["destination"]) for each in warned] == [("warning", "desk")]
    assert "T0KEN" not in checked.stderr + started.stderr


def test_config_example_is_the_documented_file() -> None:
    """What a message points at is in every installation: the example, word for word."""
    example = Path(__file__).parents[2] / "config.example.toml"
    done = command("config", "example")
    assert (done.code, done.out, done.err) == (0, example.read_text(encoding="utf-8"), "")


def test_config_show_prints_settings_that_mean_the_same(tmp_path: Path) -> None:
    """TOML that loads again to the same settings, defaults named, any character."""
    text = """
        archive_dir = "a \\"quoted\\" \\\\ ünï \\u007f"
        [[watch]]
        path = "out"
        expect_every = "26h"
        [[watch]]
        path = "other"
        [gate]
        approved_min_pf = 1.9
        [[notify.destination]]
        name = "team"
        url_file = "team.url"
        symbols = ["BTC*"]
    """
    path = written(tmp_path / "c.toml", text)
    done = command("config", "show", "--config", path)
    assert (done.code, done.err) == (0, "")
    again = written(tmp_path / "again.toml", done.out)
    assert load_settings(str(again))[0].model_dump() == load_settings(str(path))[0].model_dump()
    assert "settle_seconds = 2.0  # default" in done.lines
    assert f"approved_min_pf = 1.9  # {path}:9" in done.lines
    assert f'symbols = ["BTC*"]  # {path}:13' in done.lines
    assert json.loads(command("config", "show", "--json", "--config", path).out)["gate"]["approved_min_pf"] == 1.9


def test_config_show_masks_urls_wherever_they_come_from(tmp_path: Path) -> None:
    """From the file and from the environment; a file's and a credential's are not even read."""
    tables = [
        f'[[notify.destination]]\nname = "a"\nurl = "{SECRET}"\n',
        '[[notify.destination]]\nname = "b"\nurl_file = "secret.url"\n',
        '[[notify.destination]]\nname = "c"\nurl_credential = "secret.url"\n',
    ]
    written(tmp_path / "secret.url", SECRET)
    path = written(tmp_path / "c.toml", "".join(tables))
    own = json.dumps([{"name": "d", "url": SECRET}])
    for env in ({"CREDENTIALS_DIRECTORY": str(tmp_path)}, {"MODELWARDEN_NOTIFY__DESTINATION": own}):
        for form in ((), ("--json",)):
            shown = modelwarden("config", "show", "--config", path, *form, env=env)
            assert shown.returncode == 0
            assert "T0KEN" not in shown.stdout + shown.stderr
            assert "***" in shown.stdout


def test_config_show_names_the_source_of_each_value(tmp_path: Path) -> None:
    """The file and line, the variable, the option or the default; for a machine by the setting's path."""
    path = written(tmp_path / "c.toml", '[[watch]]\npath = "out"\n[gate]\napproved_min_pf = 1.9\n')
    env = {"MODELWARDEN_GATE__APPROVED_MIN_FITNESS": "0.8", "MODELWARDEN_LOG__LEVEL": "debug"}
    done = modelwarden("config", "show", "--json", "--config", path, "--archive", tmp_path / "a", env=env)
    answer = json.loads(done.stdout)
    assert (answer["schema_version"], answer["gate"]["approved_min_fitness"]) == (1, 0.8)
    found = {name: answer["sources"][name] for name in SOURCES}
    assert found == {name: source.replace("FILE", str(path)) for name, source in SOURCES.items()}


SOURCES = {
    "watch.0.path": "FILE:2",
    "watch.0.recursive": "default",
    "gate.approved_min_pf": "FILE:4",
    "gate.approved_min_fitness": "$MODELWARDEN_GATE__APPROVED_MIN_FITNESS",
    "log.level": "$MODELWARDEN_LOG__LEVEL",
    "archive_dir": "--archive",
    "intake.settle_seconds": "default",
}


def test_config_schema_takes_the_example_and_refuses_a_slip() -> None:
    """What an editor completes with: every setting, with what the example says of it."""
    schema = json.loads(command("config", "schema").out)
    validator = Draft202012Validator(schema)
    Draft202012Validator.check_schema(schema)
    everything = re.sub(r"(?m)^# (?=[a-z_]+ = |\[)", "", command("config", "example").out)
    document = tomllib.loads(re.sub(r"(?m)^(url_file|url_credential|secret\w*|path = .*audit).*$", "", everything))
    assert [error.message for error in validator.iter_errors(document)] == []
    assert [*validator.iter_errors({"watch": [{"path": "x", "patern": ["*"]}]})]
    assert [*validator.iter_errors({"gate": {"approved_min_pf": "high"}})]
    assert not [*validator.iter_errors({"watch": [{"path": "x", "expect_every": "26h"}]})]
    settle = schema["$defs"][schema["properties"]["intake"]["$ref"].rpartition("/")[2]]["properties"]["settle_seconds"]
    assert settle["description"] == "how long a file found without an event must stand still"


def test_config_init_writes_for_what_is_there(tmp_path: Path) -> None:
    """The archive by its identity, the folders in which summaries lie, every setting explained; and it is right."""
    with TrainingArchiveManager(tmp_path / "my archive") as manager:
        manager.archive_training_run(flat_summary())
    for name in ("runs 日本", "notes"):
        (tmp_path / name).mkdir()
    (tmp_path / "runs 日本" / "a.json").write_text(json.dumps(flat_summary()))
    (tmp_path / "notes" / "b.json").write_text("{}")
    done = command("config", "init", tmp_path / "c.toml")
    assert (done.code, done.err) == (0, "")
    settings, _ = load_settings(str(tmp_path / "c.toml"))
    assert settings.archive_dir == str(tmp_path / "my archive")
    assert [each.path for each in settings.watch] == [str(tmp_path / "runs 日本")]
    assert command("config", "check", tmp_path / "c.toml").code == 0
    text = (tmp_path / "c.toml").read_text(encoding="utf-8")
    assert "# settle_seconds = 2.0" in text
    again = command("config", "init", tmp_path / "c.toml")
    assert (again.code, again.out) == (2, "")
    assert "is there already" in again.err
    assert (tmp_path / "c.toml").read_text(encoding="utf-8") == text


def test_config_init_in_an_empty_folder_has_the_defaults(tmp_path: Path) -> None:
    """A folder to be made, an archive to be made; options outrank what is found."""
    assert command("config", "init", tmp_path / "c.toml").code == 0
    settings, _ = load_settings(str(tmp_path / "c.toml"))
    assert settings.watch[0].create
    assert settings.watch[0].path == str(tmp_path / "training_output")
    done = command("config", "init", tmp_path / "d.toml", "--watch", 'a "b"\x7f', "--archive", "/srv/x")
    assert done.code == 0
    settings, _ = load_settings(str(tmp_path / "d.toml"))
    assert (settings.watch[0].path, settings.archive_dir) == (str(tmp_path / 'a "b"\x7f'), "/srv/x")
    refused = command("config", "init", tmp_path / "no" / "c.toml")
    assert (refused.code, refused.out) == (2, "")
    assert "can't write" in refused.err


@pytest.mark.delivery
@pytest.mark.parametrize(
    ("mode", "source", "said"),
    [
        (0o644, "file", True),
        (0o604, "file", True),
        (0o640, "file", False),
        (0o600, "file", False),
        (0o644, "environment", False),
        (0o644, "url_file", True),
        (0o640, "url_file", False),
    ],
)
def test_file_with_a_url_that_everybody_may_read_is_remarked_on(
    tmp_path: Path, mode: int, source: str, said: bool
) -> None:
    """The config file where it holds the URL, or the URL's own; not one that holds none. At the start as well."""
    hook = "json://127.0.0.1:9/T0KENA-T0KENB"
    table = '[[notify.destination]]\nname = "team"\n'
    path = written(tmp_path / "c.toml", 'archive_dir = "a"\n[[watch]]\npath = "out"\ncreate = true\n')
    other = written(tmp_path / "team.url", hook)
    env = {}
    if source == "environment":
        env["MODELWARDEN_NOTIFY__DESTINATION"] = json.dumps([{"name": "team", "url": hook}])
        path.chmod(mode)
    elif source == "file":
        path.write_text(f'{path.read_text()}{table}url = "{hook}"\n')
        path.chmod(mode)
    else:
        path.write_text(f'{path.read_text()}{table}url_file = "team.url"\n')
        other.chmod(mode)
    checked = modelwarden("config", "check", path, env=env)
    started = modelwarden("run", "--once", "--config", path, env=env)
    assert (checked.returncode, started.returncode) == (0, 0)
    assert ("everybody can read it" in checked.stderr) is said
    assert ("url_readable_by_others" in started.stderr) is said
    assert "T0KEN" not in checked.stdout + checked.stderr + started.stderr


def test_reindex_and_adopt_say_what_is_missing(archive: Path) -> None:
    """As data: how many runs there are, what this state knows and the archive has not, what was let go of."""
    shutil.rmtree(archive / "20240102_000000")
    where = ("--archive", archive)
    adopted = answer("adopt", *where)
    assert (adopted["archive"], adopted["runs"], adopted["missing"]) == (str(archive), 2, ["20240102_000000"])
    assert adopted["archive_id"] == json.loads((archive / ".archive.json").read_bytes())["archive_id"]
    made = answer("reindex", *where)
    assert (made["archive"], made["runs"]) == (str(archive), 2)
    assert (made["forgotten"], made["missing"]) == (0, ["20240102_000000"])
    made = answer("reindex", "--forget-missing", *where)
    assert (made["runs"], made["forgotten"], made["missing"]) == (2, 1, [])


def test_config_check_as_data_warns_on_standard_error(tmp_path: Path) -> None:
    """What the settings come to, without a URL; what is to be thought about is in no answer."""
    text = f"""
        archive_dir = "a"
        [[watch]]
        path = "out"
        format = "keras"
        policy = "mine"
        [[policy]]
        name = "mine"
        [[policy.gate]]
        metric = "val_loss"
        better = "lower"
        approve = 0.7
        review = 0.8
        [[notify.destination]]
        name = "team"
        url = "{SECRET}"
        on = ["REVIEW"]
    """
    path = written(tmp_path / "c.toml", text)
    path.chmod(0o644)
    found = answer("config check", path, warns="modelwarden: .*everybody can read it.*\n")
    assert "T0KEN" not in str(found)
    assert (found["settings"], found["archive"], found["state"]) == (
        str(path),
        f"{tmp_path}/a",
        f"{tmp_path}/a/.state",
    )
    (watched,) = found["watches"]
    assert (watched["folder"], watched["format"], watched["policy_name"]) == (f"{tmp_path}/out", "keras", "mine")
    assert [each["policy_name"] for each in found["policies"]] == ["default", "mine"]
    assert found["destinations"] == [{"destination": "team", "on": ["REVIEW"]}]


def test_config_init_says_as_data_what_it_wrote(tmp_path: Path) -> None:
    """The file, and what the settings in it come to."""
    (tmp_path / "out").mkdir()
    found = answer("config init", tmp_path / "c.toml", "--watch", "out", "--archive", "/srv/x")
    assert found["file"] == str(tmp_path / "c.toml")
    assert (found["folders"], found["archive"]) == ([f"{tmp_path}/out"], "/srv/x")
    assert (tmp_path / "c.toml").is_file()
