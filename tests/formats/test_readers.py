"""Readers: what was written is read, what is torn never becomes a value, what is doubtful is refused."""

import io
import math
import zipfile
from typing import Any

import numpy as np
import pytest

from modelwarden.errors import RejectSummary
from modelwarden.formats.bundle import bundle
from modelwarden.formats.normalising import Torn
from modelwarden.formats.readers import LARGEST_DOCUMENT, read_document
from trainers import TRAINERS

LOGS = [
    ("csv", "lightning/dev/seed1/lightning_logs/version_0/metrics.csv"),
    ("csv", "keras/dev/seed1/training.log"),
    ("csv", "ultralytics/dev/seed1/train/results.csv"),
    ("tsv", "catboost/dev/seed1/catboost_info/test_error.tsv"),
    ("jsonl", "sb3/dev/ppo_seed1/progress.json"),
    ("jsonl", "ray-tune/dev/tune_seed1/f_8a3a4_00003_3_layers=2,lr=0.0008_2026-11-23_23-56-56/result.json"),
]
WHOLES = [
    ("json", "xgboost/dev/seed1/xgb_evals_result.json"),
    ("npz", "sb3/dev/ppo_seed1/evaluations.npz"),
]


def refused(reader: str, data: bytes) -> RejectSummary:
    """Why the bytes are not read, now or ever."""
    with pytest.raises(RejectSummary) as error:
        read_document(reader, data)
    return error.value


def same(one: Any, other: Any) -> bool:
    """Whether two rows say the same, NaN included."""
    return repr(one) == repr(other)


@pytest.mark.parametrize(("reader", "file"), LOGS)
def test_every_cut_of_a_log_has_whole_rows_alone(reader: str, file: str) -> None:
    """Wherever a log is cut, what is read are its first rows as they were written, or it is not ready."""
    data = (TRAINERS / file).read_bytes()
    rows = read_document(reader, data)
    for end in range(len(data)):
        try:
            found = read_document(reader, data[:end])
        except Torn:
            continue
        assert len(found) <= len(rows)
        assert all(map(same, found, rows)), end


@pytest.mark.parametrize(("reader", "file"), WHOLES)
def test_every_cut_of_a_document_is_not_ready(reader: str, file: str) -> None:
    """What is one document is read whole or not at all."""
    data = (TRAINERS / file).read_bytes()
    read_document(reader, data)
    for end in range(len(data)):
        with pytest.raises(Torn):
            read_document(reader, data[:end])


def test_cut_of_a_zip_is_not_ready() -> None:
    """Its directory is written last; a whole one is read by the endings of its members."""
    data = (TRAINERS / "freqtrade/dev/backtest-result-2026-11-23_23-59-27.zip").read_bytes()
    assert read_document("zip", data, ["backtest-result-*.json"])
    for end in (*range(0, len(data), 997), len(data) - 1):
        with pytest.raises(Torn):
            read_document("zip", data[:end])


def test_unterminated_figure_is_dropped() -> None:
    """0.9 may be the beginning of 0.95."""
    assert read_document("csv", b"epoch,acc\n1,0.5\n2,0.9") == [{"epoch": 1, "acc": 0.5}]


def test_unterminated_object_counts_if_whole() -> None:
    """No beginning of an object is one, so that the last row needs no line break."""
    assert read_document("jsonl", b'{"a": 1}\n{"a": 2}') == [{"a": 1}, {"a": 2}]
    assert read_document("jsonl", b'{"a": 1}\n{"a": 2') == [{"a": 1}]


@pytest.mark.parametrize(
    ("reader", "data", "words"),
    [
        ("json", b'{"a": 1, "a": 2}', "twice"),
        ("jsonl", b'{"a": 1, "a": 2}\n', "twice"),
        ("csv", b"a,a\n1,2\n", 'the column "a" stands twice'),
        ("yaml", b"a: 1\na: 2\n", "twice"),
        ("yaml", b"b:\n  a: 1\n  a: 2\n", "line 3"),
    ],
)
def test_key_that_stands_twice_is_refused(reader: str, data: bytes, words: str) -> None:
    """Two readers could read two things, and jq would take the last without a word."""
    error = refused(reader, data)
    assert not isinstance(error, Torn)
    assert words in str(error)


def test_member_that_stands_twice_is_refused() -> None:
    """A ZIP file may hold one name twice."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a.json", "{}")
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("a.json", "[]")
    assert "twice" in str(refused("zip", stream.getvalue()))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("-2.5e-3", -0.0025),
        ("", None),
        ("True", True),
        ("abc", "abc"),
        ("1_000", "1_000"),
        ("inf", math.inf),
        ("-Infinity", -math.inf),
        ("0x10", "0x10"),
        ("\u0661", "\u0661"),
        ("9" * 400, math.inf),
    ],
)
def test_cell_is_a_number_only_if_it_is_written_as_one(text: str, value: object) -> None:
    """What Python alone takes for a number stays text."""
    assert read_document("csv", f"a,b\n{text},1\n".encode()) == [{"a": value, "b": 1}]


def test_nan_stays_nan() -> None:
    """In JSON as Python writes it, and in a table."""
    assert math.isnan(read_document("json", b'{"a": NaN}')["a"])
    assert math.isnan(read_document("csv", b"a,b\nnan,1\n")[0]["a"])
    assert read_document("json", b"[Infinity, -Infinity]") == [math.inf, -math.inf]


def test_padded_names_of_columns_are_trimmed() -> None:
    """Older versions of Ultralytics pad them."""
    assert read_document("csv", b"  epoch,   acc\n  1,  0.5\n") == [{"epoch": 1, "acc": 0.5}]


@pytest.mark.parametrize(
    ("reader", "data", "words"),
    [
        ("csv", b"a,b\n1\n", "line 2: has 1 cells, and there are 2 columns"),
        (
            "csv",
            b"a;b\n1;0,5\n",
            "line 2: has 2 cells, and there are 1 columns: cells are separated by commas, and dec",
        ),
        ("csv", b"a,b\n\xff,1\n", "line 2: the file is not UTF-8"),
        ("csv", b'a,b\n"1"x,2\n', "is no table"),
        ("jsonl", b'{"a": 1}\n{"a"\n{"a": 2}\n', "line 2: not JSON"),
        ("jsonl", b"[1]\n[2]\n", "line 1: expected an object, got a list"),
        ("yaml", b"- 1\n", "the top level is a list"),
        ("yaml", b"a: [1\n", "not YAML"),
        ("yaml", b"a: !!python/object/apply:os.system ['true']\n", "not YAML"),
        ("json", b"[" * 5000 + b"]" * 5000, "nested too deeply"),
        ("zip", bundle({"a.txt": b"x\n"}), "holds nothing called *.json"),
    ],
)
def test_what_can_not_be_read_is_refused_with_its_place(reader: str, data: bytes, words: str) -> None:
    """One sentence says what and where."""
    with pytest.raises(RejectSummary) as error:
        read_document(reader, data, ["*.json"])
    assert words in str(error.value)


def test_array_of_objects_is_refused() -> None:
    """To load one would run what a stranger wrote."""
    stream = io.BytesIO()
    np.savez(stream, a=np.array([{}], dtype=object))
    assert "Object arrays cannot be loaded" in str(refused("npz", stream.getvalue()))


def test_array_of_dates_is_refused() -> None:
    """Only numbers, truth values and text."""
    stream = io.BytesIO()
    np.savez(stream, a=np.array(["2026-01-01"], dtype="datetime64[D]"))
    assert "not numbers" in str(refused("npz", stream.getvalue()))


def test_zip_bomb_is_refused_unopened() -> None:
    """What it says of its size is asked first."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(5):
            archive.writestr(f"{number}.json", b" " * (LARGEST_DOCUMENT // 4))
    assert len(stream.getvalue()) < 2_000_000
    assert "more than" in str(refused("zip", stream.getvalue()))


def test_encrypted_member_is_refused() -> None:
    """Its bytes are read as they are, and nobody knows the password."""
    data = bytearray(bundle({"a.json": b"{}"}))
    for at in (data.find(b"PK\3\4") + 6, data.find(b"PK\1\2") + 8):
        data[at] |= 1
    assert "encrypted" in str(refused("zip", bytes(data)))


def test_bundle_is_the_same_whenever_it_is_made() -> None:
    """A run is known by the sha256 of these bytes."""
    one = bundle({"b/c.tsv": b"1\n", "a.json": b"{}"})
    assert one == bundle({"a.json": b"{}", "b/c.tsv": b"1\n"})
    assert one != bundle({"a.json": b"{}", "b/c.tsv": b"2\n"})
    assert read_document("zip", bundle({"a.json": b"{}", "m/x": b"1 2\n3 4"})) == {"a.json": {}, "m/x": ["1 2"]}
