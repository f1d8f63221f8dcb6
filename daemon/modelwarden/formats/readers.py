"""Readers: a trainer's bytes to one document of objects, lists, text and numbers.

The rule: never a value that was not written. What is torn is left out if its end can be seen, and is not ready
if it can't; a key that stands twice is refused, for two readers could read two things; NaN and infinities stay.
"""

import csv
import io
import math
import os
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, Final

from modelwarden.errors import RejectSummary
from modelwarden.formats.normalising import Torn
from modelwarden.gate.json_object import NotJson, kind_of, quote, read_json

LARGEST_DOCUMENT: Final = 256 * 1024 * 1024
"""Most bytes that a compressed file may hold."""

MOST_MEMBERS: Final = 20_000

_NUMBER: Final = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_NOT_FINITE: Final = {"nan": math.nan, "inf": math.inf, "infinity": math.inf}
_WORDS: Final = {"": None, "true": True, "false": False}


def read_document(reader: str, data: bytes, members: Sequence[str] = ("*",)) -> Any:
    """What the bytes hold.

    Args:
        reader: one of `description.READERS`.
        data: the bytes.
        members: shell patterns of what is read of a ZIP file.

    Raises:
        Torn: they end too early; more may come.
        RejectSummary: they are not what the reader reads.
    """
    try:
        return _read_zip(data, members) if reader == "zip" else _READERS[reader](data)
    except RecursionError:
        raise RejectSummary("nested too deeply") from None


def _read_json(data: bytes) -> Any:
    try:
        document = read_json(data)
    except NotJson as error:
        raise Torn(error.what, where=error.where, hint=error.hint) from None
    if not isinstance(document, dict | list):  # the beginning of a number is a number
        raise Torn(f"the top level is {kind_of(document)}, not an object or a list")
    return document


def _read_jsonl(data: bytes) -> list[Any]:
    """The rows. The last counts also without its line break if it is whole: no beginning of an object is one."""
    lines = data.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    rows: list[Any] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = read_json(line)
        except NotJson as error:
            if number == len(lines):
                break  # torn
            raise RejectSummary(error.what, where=f"line {number}", hint="each line is one JSON object") from None
        if not isinstance(row, dict):
            if number == len(lines):
                break
            raise RejectSummary(f"expected an object, got {kind_of(row)}", where=f"line {number}")
        rows.append(row)
    if not rows:
        raise Torn("there is no whole line yet")
    return rows


def _read_csv(data: bytes) -> list[dict[str, Any]]:
    return _read_table(data, ",")


def _read_tsv(data: bytes) -> list[dict[str, Any]]:
    return _read_table(data, "\t")


def _read_table(data: bytes, delimiter: str) -> list[dict[str, Any]]:
    """The rows by their columns. What is behind the last line break is torn: 0.9 may be the beginning of 0.95."""
    whole = data[: data.rfind(b"\n") + 1].removeprefix(b"\xef\xbb\xbf")
    try:
        text = whole.decode()
    except UnicodeDecodeError as error:
        number = whole.count(b"\n", 0, error.start) + 1
        raise RejectSummary("the file is not UTF-8", where=f"line {number}", hint="write it as UTF-8") from None
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows: list[dict[str, Any]] = []
    names: list[str] | None = None
    try:
        for cells in reader:
            if not cells:
                continue
            if names is None:
                names = _header([each.strip() for each in cells])
            elif len(cells) != len(names):
                what = f"has {len(cells)} cells, and there are {len(names)} columns"
                raise RejectSummary(what, where=f"line {reader.line_num}", hint=_HOW_CELLS_STAND[delimiter])
            else:
                rows.append(dict(zip(names, map(_cell, cells), strict=True)))
    except csv.Error as error:
        if "unexpected end of data" in str(error):
            raise Torn("a quoted text does not end") from None
        raise RejectSummary(f"is no table: {error}", where=f"line {reader.line_num}") from None
    if not rows:
        raise Torn("there is no whole row yet")
    return rows


_HOW_CELLS_STAND: Final = {
    ",": "cells are separated by commas, and decimals have a point",
    "\t": "cells are separated by tabs",
}


def _header(names: list[str]) -> list[str]:
    twice = next((name for at, name in enumerate(names) if name in names[:at]), None)
    if twice is not None:
        hint = "keep one: a reader can't know which counts"
        raise RejectSummary(f"the column {quote(twice)} stands twice", where="line 1", hint=hint)
    return names


def _cell(text: str) -> Any:
    text = text.strip()
    if _NUMBER.fullmatch(text):
        if text.lstrip("+-").isdigit() and len(text) < _LONGEST_INTEGER:
            return int(text)
        return float(text)
    word = text.lower()
    if word in _WORDS:
        return _WORDS[word]
    if (figure := _NOT_FINITE.get(word.lstrip("+-"))) is not None:
        return -figure if word.startswith("-") else figure
    return text


_LONGEST_INTEGER: Final = 19


def load(reader: str) -> None:
    """Load what a reader needs beside this module: what is loaded once need not be loaded for each file.

    Raises:
        ImportError: it is not installed.
    """
    if reader == "npz":
        os.environ["OPENBLAS_NUM_THREADS"] = "1"  # else it takes memory for each core that there is
        try:
            import numpy  # noqa: F401, ICN001, PLC0415 - of the extra; half the start of a worker that needs none
        finally:
            del os.environ["OPENBLAS_NUM_THREADS"]  # programs see no environment
    elif reader in {"yaml", "zip"}:
        import yaml  # noqa: F401, PLC0415 - of the extra


def _read_npz(data: bytes) -> dict[str, Any]:
    """The arrays by name, as nested lists. None of them may hold objects: to load one would run what it says."""
    load("npz")
    import numpy  # noqa: ICN001, PLC0415 - of the extra

    _insist_on_size(_opened(data))
    try:
        with numpy.load(io.BytesIO(data), allow_pickle=False) as arrays:
            return {name: _plain(name, arrays[name]) for name in arrays.files}
    except (zipfile.BadZipFile, EOFError) as error:
        raise Torn(f"not a whole NPZ file: {error}") from None
    except ValueError as error:
        raise RejectSummary(f"an array can't be read: {error}") from None


def _plain(name: str, array: Any) -> Any:
    if array.dtype.kind not in "biufU":
        raise RejectSummary(f"holds {array.dtype}, not numbers", where=quote(name))
    return array.tolist()


def _read_yaml(data: bytes) -> Any:
    import yaml  # noqa: PLC0415 - of the extra

    try:
        root = yaml.compose(data, Loader=yaml.SafeLoader)
        _insist_on_own_keys(root, set())
        document = yaml.safe_load(data)
    except (yaml.YAMLError, ValueError, UnicodeDecodeError) as error:
        line = getattr(getattr(error, "problem_mark", None), "line", None)
        where = "" if line is None else f"line {line + 1}"
        raise Torn(f"not YAML: {getattr(error, 'problem', None) or 'it is not text'}", where=where) from None
    if not isinstance(document, dict):
        raise Torn(f"the top level is {kind_of(document)}, not an object")
    return _json_only(document)


def _insist_on_own_keys(node: Any, seen: set[int]) -> None:
    """Raise if a mapping has a key twice; an alias stands for what was looked at already."""
    if node is None or id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node.value, list):
        keys: set[str] = set()
        for each in node.value:
            if isinstance(each, tuple):
                key = str(each[0].value)
                if key in keys:
                    hint = "keep one: a reader can't know which counts"
                    where = f"line {each[0].start_mark.line + 1}"
                    raise RejectSummary(f"the key {quote(key)} stands twice", where=where, hint=hint)
                keys.add(key)
                _insist_on_own_keys(each[1], seen)
            else:
                _insist_on_own_keys(each, seen)


def _json_only(value: Any) -> Any:
    """The value with text for what JSON has no word for, such as a date."""
    if isinstance(value, dict):
        return {str(key): _json_only(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_json_only(each) for each in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _read_text(data: bytes) -> list[str]:
    """The lines that end."""
    return data[: data.rfind(b"\n") + 1].decode(errors="replace").splitlines()


def _read_zip(data: bytes, members: Sequence[str]) -> dict[str, Any]:
    """The members that are asked for, each read by the ending of its name; one of another ending as lines of text."""
    archive = _opened(data)
    _insist_on_size(archive)
    read: dict[str, Any] = {}
    for info in _files_of(archive):
        if not any(fnmatchcase(info.filename, each) for each in members):
            continue
        if info.filename in read:
            raise RejectSummary(f"{quote(info.filename)} is in the file twice")
        try:
            inner = archive.read(info)
        except (zipfile.BadZipFile, EOFError) as error:
            raise Torn(f"not a whole ZIP file: {error}") from None
        except (RuntimeError, NotImplementedError) as error:  # encrypted, or a compression that nobody knows
            raise RejectSummary(str(error), where=quote(info.filename)) from None
        ending = info.filename.rpartition("/")[2].rpartition(".")[2]
        try:
            read[info.filename] = _READERS.get(ending, _read_text)(inner)
        except RejectSummary as error:
            where = ": ".join(part for part in (quote(info.filename), error.where) if part)
            raise type(error)(error.what, where=where, hint=error.hint) from None
    if not read:
        raise RejectSummary(f"holds nothing called {' or '.join(members)}")
    return read


def members_of(data: bytes) -> Iterator[tuple[str, bytes]]:
    """The files of a group that were bundled."""
    with _opened(data) as archive:
        for info in _files_of(archive):
            yield info.filename, archive.read(info)


def _opened(data: bytes) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(io.BytesIO(data))
    except (zipfile.BadZipFile, EOFError, ValueError) as error:  # its directory is written last
        raise Torn(f"not a whole ZIP file: {error}") from None


def _files_of(archive: zipfile.ZipFile) -> Iterator[zipfile.ZipInfo]:
    return (each for each in archive.infolist() if not each.is_dir())


def _insist_on_size(archive: zipfile.ZipFile) -> None:
    infos = archive.infolist()
    if len(infos) > MOST_MEMBERS:
        raise RejectSummary(f"holds {len(infos)} files, more than {MOST_MEMBERS}")
    if (size := sum(each.file_size for each in infos)) > LARGEST_DOCUMENT:
        raise RejectSummary(f"holds {size} bytes, more than {LARGEST_DOCUMENT}")


_READERS: Final[Mapping[str, Callable[[bytes], Any]]] = {
    "json": _read_json,
    "jsonl": _read_jsonl,
    "csv": _read_csv,
    "tsv": _read_tsv,
    "npz": _read_npz,
    "yaml": _read_yaml,
}
