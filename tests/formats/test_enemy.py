"""Files that are meant to deceive or to harm, or that nobody meant: each costs itself, with a reason, and no more."""

import gzip
import io
import json
import os
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest

from modelwarden.errors import RejectSummary
from modelwarden.formats.description import Format
from modelwarden.formats.normalising import NotFinal
from modelwarden.formats.sandbox import translate
from modelwarden.formats.shelf import presets
from modelwarden.formats.worker import Order
from trainers import FILES, TRAINERS, bytes_of, made_of

ONE: Final = '{models: [{symbol: "A", metrics: {x: .x}}]}'
PLAIN: Final = Format("plain", "Plain", ("*.json",), "json", ONE)
BY_LINE: Final = [name for name, each in presets().items() if each.reader in {"json", "jsonl", "csv", "tsv"}]


def asked(format_: Format, data: bytes, path: str = "/runs/one/file") -> Any:
    """The summary, or in words why there is none."""
    try:
        made = translate(Order(format_, path), data)
    except RejectSummary as error:
        return str(error)
    assert not isinstance(made, NotFinal)
    return json.loads(made)


@pytest.mark.parametrize("name", BY_LINE)
@pytest.mark.parametrize("other", ["bom", "crlf"])
def test_other_ways_to_write_text_make_no_other_figures(name: str, other: str) -> None:
    """A byte-order mark, and the line ends of another system."""
    path = TRAINERS / FILES[name][0]
    data = path.read_bytes()
    data = b"\xef\xbb\xbf" + data if other == "bom" else data.replace(b"\n", b"\r\n")
    assert asked(presets()[name], data, str(path)) == made_of(name, FILES[name][0])


@pytest.mark.parametrize("name", sorted(presets()))
@pytest.mark.parametrize(
    "spoil",
    [
        lambda _: b"",
        gzip.compress,
        lambda _: b"\0" * 4096,
        lambda data: data[:1000].decode("latin-1").encode("utf-16"),
        lambda _: b"<html>504</html>",
        lambda _: b"null",
        lambda _: b"[[1]]",
        lambda _: b'{"a": {"b": "0.9"}}',
        lambda _: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
    ],
    ids=["empty", "gzip", "zeros", "utf-16", "html", "null", "lists", "text", "lfs pointer"],
)
def test_file_that_is_another_has_a_reason_and_no_figures(name: str, spoil: Callable[[bytes], bytes]) -> None:
    """The worker does not fail at it: what is said is of the file."""
    format_ = presets()[name]
    said = asked(format_, spoil(bytes_of(format_, TRAINERS / FILES[name][0])))
    if isinstance(said, str):
        assert "the worker that read it" not in said
        return
    figures = [point for model in said["models"] for each in model["metrics"].values() for point in np.atleast_1d(each)]
    assert [each for each in figures if each is not None] == []


@pytest.mark.parametrize("written", ['"0.9"', '"90%"', '"1,5"', '"NaN%"', "true", "[]", "{}", '"0x1"'])
def test_text_is_no_figure(written: str) -> None:
    """However much it looks like one: a model that lacks a figure is not judged by a guess."""
    assert asked(PLAIN, b'{"x": %s}' % written.encode())["models"][0]["metrics"].get("x") in ([None], None)


def test_table_cells_with_signs_are_no_figures() -> None:
    """A percent sign says that it is in another unit."""
    table = replace(PLAIN, reader="csv", program='{models: [{symbol: "A", metrics: columns(["x"])}]}')
    assert asked(table, b"x\n90%\n1_000\n0x1F\n1e\n")["models"][0]["metrics"]["x"] == [None] * 4


def test_table_of_ten_thousand_columns_is_read() -> None:
    """In time, and a name that stands twice is still found."""
    names = [f"m{number}" for number in range(10_000)]
    table = replace(PLAIN, reader="csv", program='{models: [{symbol: "A", metrics: {x: [.[].m9999]}}]}')
    data = (",".join(names) + "\n" + ",".join(["0.5"] * 10_000) + "\n").encode()
    assert asked(table, data)["models"][0]["metrics"]["x"] == [0.5]
    twice = data.replace(b"m9998", b"m9997", 1)
    assert 'the column "m9997" stands twice' in asked(table, twice)


def test_log_of_a_hundred_thousand_rows_is_read() -> None:
    """Long trainings log much."""
    table = replace(PLAIN, reader="csv", program='{models: [{symbol: "A", metrics: {x: .[-1].x, y: length}}]}')
    data = b"x,y\n" + b"".join(b"%d,0.5\n" % row for row in range(100_000))
    assert asked(table, data)["models"][0]["metrics"] == {"x": [99_999.0], "y": [100_000.0]}


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ('$ENV.PATH // error("none")', "says: none"),
        ('env | length | if . == 0 then error("none") else . end', "says: none"),
        ("input_filename", "puts out null"),
        ("input", "says: "),
        ("halt_error", "puts out 0 values"),
        ("$__loc__ | error", "says: "),
        ('get_search_list | if length == 0 then error("none") else . end', "says: none"),
        ('import "a" as a; .', "does not compile"),
        ('include "/etc/passwd"; .', "does not compile"),
        ("$__prog_args", "does not compile"),
        ('("a" * 1200000000) | utf8bytelength', "of memory"),
    ],
)
def test_program_reaches_for_nothing(program: str, words: str) -> None:
    """Neither the environment, nor files, nor another input."""
    said = asked(replace(PLAIN, program=program), b'{"x": 1}')
    assert words in said, said


def zipped(**members: bytes) -> bytes:
    """A ZIP file."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return stream.getvalue()


@pytest.mark.parametrize("name", ["../../evil.json", "/etc/evil.json", "..\\evil.json"])
def test_name_in_a_zip_file_is_no_path(name: str, tmp_path: Path) -> None:
    """It is a key of what is read, and nothing is written anywhere."""
    made = replace(PLAIN, reader="zip", program='{models: [{symbol: "A", metrics: {x: ([.[]] | .[0].x)}}]}')
    os.chdir(tmp_path)
    assert asked(made, zipped(**{name: b'{"x": 2}'}))["models"][0]["metrics"]["x"] == [2.0]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("reader", ["zip", "npz"])
def test_zip_bomb_costs_no_memory(reader: str) -> None:
    """Whether its directory says how large it is, or lies."""
    bomb = zipped(**{"a.npy" if reader == "npz" else "a.json": b"[" + b"0," * 200_000_000 + b"0]"})
    assert "more than" in asked(replace(PLAIN, reader=reader), bomb)
    size = (400_000_003).to_bytes(4, "little")
    lying = bomb.replace(size, (100).to_bytes(4, "little"))
    said = asked(replace(PLAIN, reader=reader), lying)
    assert isinstance(said, str)
    assert "the worker that read it" not in said


def test_pickle_in_an_array_is_never_run(tmp_path: Path) -> None:
    """To load it would run what it says."""

    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "ran"),)

    stream = io.BytesIO()
    np.savez(stream, x=np.array([Evil()], dtype=object))
    assert "an array can't be read: Object arrays" in asked(replace(PLAIN, reader="npz"), stream.getvalue())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "data",
    [
        b"x: !!python/object/apply:os.mkdir ['/tmp/never']\n",
        b"x: !evil 1\n",
        b"a: &a [*a]\nx: 1\n",
        b"? [a]\n: 1\n",
        b"x: 1\nx: 2\n",
        b"<<: {x: 1}\nx: 2\n",
        b"- 1\n",
    ],
)
def test_yaml_is_data_alone(data: bytes) -> None:
    """No tag makes anything, and what can't be JSON is refused or is text."""
    said = asked(replace(PLAIN, reader="yaml"), data)
    if isinstance(said, str):
        assert "the worker that read it" not in said
    assert not Path("/tmp/never").exists()


def test_names_of_any_letters_are_kept() -> None:
    """They are text, and what takes no room or turns a line is shown as an underscore."""
    data = json.dumps({"x": 1, "n": "模型 📈 é\u202e\n\x1b[31m"}).encode()
    said = asked(replace(PLAIN, program="{models: [{symbol: .n, metrics: {x: .x}}]}"), data)
    assert said["models"][0]["symbol"] == "模型 📈 é__" + "_[31m"
