"""daemon/README.md says the truth: its tables are the code's, the schemas fit what is written, its links lead on."""

import json
import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import fields
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator, FormatChecker

from modelwarden import Flag, ModelGatingConfig
from processes import modelwarden

ROOT = Path(__file__).parent.parent
PAGES = (ROOT / "README.md", ROOT / "daemon" / "README.md")
REFERENCE = PAGES[1].read_text(encoding="utf-8")
FORMATS = ("index.json", "model_assessments.json", "reason.json")
INF_AND_NAN = (
    b'{"models": [{"symbol": "A", "final_fitness": NaN, "final_pf": Infinity, "final_consistency": 0.9,'
    b' "final_max_dd": 0.05, "fitness_history": [0.1, 0.5]}, {"symbol": "B", "final_pf": 2}]}'
)


def schema_of(name: str) -> dict[str, Any]:
    """The schema of one of the files that modelwarden writes, as the package has it."""
    schema: dict[str, Any] = json.loads(
        files("modelwarden").joinpath("schemas", f"{name.removesuffix('.json')}.schema.json").read_text("utf-8")
    )
    return schema


def section(heading: str) -> str:
    """The text below a heading, up to the next one."""
    found = re.search(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#+ |\Z)", REFERENCE, re.MULTILINE | re.DOTALL)
    assert found is not None, heading
    return found[1]


def tables(text: str) -> list[dict[str, str]]:
    """Each table of a text: its first column's names to the last column's words."""
    found: list[dict[str, str]] = []
    for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        rows = [[cell.strip() for cell in line.strip().strip("|").split(" | ")] for line in block.splitlines()[2:]]
        found.append({row[0].strip("`"): row[-1] for row in rows})
    return found


def properties_by_table(name: str) -> list[Mapping[str, Any]]:
    """The properties that each table under a file's heading documents."""
    schema = schema_of(name)
    match name:
        case "index.json":
            return [schema["properties"]["runs"]["items"]["properties"]]
        case "model_assessments.json":
            kinds = schema["$defs"]
            return [schema["properties"], kinds["assessment"]["properties"], kinds["policy"]["properties"]]
        case _:
            return [schema["properties"]]


@pytest.mark.parametrize("name", FORMATS)
def test_keys_of_a_file_are_documented_as_its_schema_has_them(name: str) -> None:
    """A table row for each key, in the schema's order and words."""
    expected = [
        {key: each["description"] for key, each in properties.items()} for properties in properties_by_table(name)
    ]
    assert tables(section(name)) == expected


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the daemon writes of good, odd and bad files."""
    folder = tmp_path_factory.mktemp("reference")
    watched = folder / "in"
    watched.mkdir()
    for data in (ROOT / "tests" / "data").glob("training_summary_*.json"):
        (watched / data.name).write_bytes(data.read_bytes())
    (watched / "odd.json").write_bytes(INF_AND_NAN)
    (watched / "bad.json").write_bytes(b'{"models": [{"final_pf": "x"}]}')
    done = modelwarden("run", "--once", "--watch", watched, "--archive", folder / "archive")
    assert done.returncode == 1, done.stderr  # one was rejected
    return folder / "archive"


@pytest.mark.parametrize("name", FORMATS)
def test_written_files_fit_their_schema_and_no_key_is_undocumented(name: str, archive: Path) -> None:
    """What the daemon writes is what the schema says, key for key."""
    schema = schema_of(name)
    validator = Draft202012Validator(_closed(schema), format_checker=FormatChecker())
    written = sorted(archive.rglob(name))
    assert written
    for file in written:
        problems = [error.message for error in validator.iter_errors(json.loads(file.read_bytes()))]
        assert problems == [], file


def _closed(schema: Any) -> Any:
    """The schema without leave for other keys, so that a key nobody documented is seen."""
    if isinstance(schema, list):
        return [_closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: _closed(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and "type" in schema:
        closed.setdefault("additionalProperties", False)
    return closed


def test_table_of_flags_has_each_flag_in_order() -> None:
    """What `flags` may hold, all of it."""
    assert list(tables(section("Flags"))[0]) == [flag.value for flag in Flag]


def test_bounds_of_the_table_are_the_defaults() -> None:
    """The settings and values that the table of metrics names."""
    named = {name: float(value) for name, value in re.findall(r"`(\w+)` = ([0-9.]+)", section("The rule"))}
    defaults = {field.name: field.default for field in fields(ModelGatingConfig)}
    bounds = {name: value for name, value in defaults.items() if not name.startswith("fitness_")}
    assert named == {**bounds, "reward_scale": 0.001}


def test_picture_of_the_house_has_every_room_and_no_other() -> None:
    """Who reads it knows where to look: each folder and module of the package's top, and nothing that is gone."""
    picture = re.search(r"```\n(   cli/.*?)```", section("How it is built"), re.DOTALL)
    assert picture is not None
    drawn = set(re.findall(r"(?<!\S)[a-z]+(?:/|\.py)(?!\S)", picture[1]))
    package = ROOT / "daemon" / "modelwarden"
    there = {f"{each.name}/" for each in package.iterdir() if (each / "__init__.py").is_file()}
    there |= {each.name for each in package.glob("[a-z]*.py")}
    assert drawn == there


def links() -> Iterator[tuple[Path, str]]:
    """Every link of both pages that does not lead away."""
    for page in PAGES:
        for target in re.findall(r"]\(([^)]+)\)", page.read_text(encoding="utf-8")):
            if "://" not in target:
                yield page, target


@pytest.mark.parametrize(("page", "target"), [*links()])
def test_link_leads_to_a_file_and_a_heading(page: Path, target: str) -> None:
    """No link is broken."""
    path, _, anchor = target.partition("#")
    file = (page.parent / path).resolve() if path else page
    assert file.exists(), target
    if anchor:
        headings = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.MULTILINE)
        assert anchor in {_anchor(heading) for heading in headings}


def _anchor(heading: str) -> str:
    """A heading's anchor as code hosts make it."""
    kept = "".join(each for each in heading.lower() if each in " -_" or unicodedata.category(each)[0] in {"L", "N"})
    return kept.replace(" ", "-")


def test_table_of_answers_has_each_commands_definition() -> None:
    """What `--json` prints is listed as the schema has it, each key of an answer that is named in the table."""
    kinds = schema_of("answers.json")["$defs"]
    (table,) = tables(section("Answers as data"))
    assert table.keys() == kinds.keys() - {"run", "model", "problem", "decision"}
    for command, words in table.items():
        text = json.dumps(kinds[command]) + json.dumps(kinds["run"])
        assert all(f'"{key}"' in text for key in re.findall(r"`(\w+)`", words)), command
