"""Twenty thousand inputs a run: each is archived or rejected with its place, and costs memory in proportion.

The rule: the groups of inputs are the corpus's; what must hold of every one of them is `walk`'s.
"""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import pytest

from fuzz.corpus import GROUPS, LEAST, LEAST_OF_GROUP, MEGABYTE, a_few_of_each
from fuzz.walk import LONGEST_REASON, walking
from modelwarden.errors import RejectSummary
from modelwarden.gate.summary import MAX_MODELS, parse_summary
from processes import clean_environment
from rigs.mutants import Mutant

STAGED_BY_WORKERS: Final = {"hostile-text", "drawn-splices"}
"""Groups that come as a backlog: other processes stage them, and refusals come back through a pipe."""

TESTS: Final = Path(__file__).parents[1]

FIXED_MEMORY: Final = 96 * MEGABYTE
TIMES_THE_INPUT: Final = 40
"""A summary may cost so much memory and so many times its size: Python's smallest object in a list of JSON's smallest
value takes some 28 times its bytes."""


@pytest.mark.fuzz
@pytest.mark.timeout(600)
@pytest.mark.parametrize("group", GROUPS)
def test_inputs_of_every_kind_are_archived_or_rejected_with_their_place(
    group: str, tmp_path: Path, tried: Callable[[str, float], None]
) -> None:
    """No crash, nothing outside the archive, nothing twice, one message each, whatever the bytes and names are."""
    with walking(tmp_path, workers=2 if group in STAGED_BY_WORKERS else 0) as walk:
        walk.walk(GROUPS[group]())
    tried("fuzz: different inputs", walk.inputs)
    assert walk.inputs >= LEAST_OF_GROUP[group]


@pytest.mark.fuzz
def test_inputs_of_all_groups_are_at_least_twenty_thousand() -> None:
    """The groups, each held to its own least number, make the number that is promised."""
    assert LEAST_OF_GROUP.keys() == GROUPS.keys()
    assert sum(LEAST_OF_GROUP.values()) >= LEAST


def test_few_inputs_of_each_kind_are_archived_or_rejected(tmp_path: Path) -> None:
    """The same, with the place of what is wrong, for a few hundred inputs, in every run of the tests."""
    with walking(tmp_path) as walk:
        walk.walk(a_few_of_each())
    assert walk.inputs >= 400


@pytest.mark.parametrize("rest", [b"[" * 1_200 + b"]" * 1_200, b"9" * 5_000, b"]"], ids=["deep", "long", "broken"])
def test_key_twice_in_what_is_no_json_is_refused_by_its_place(rest: bytes) -> None:
    """The first fault that is met is named with its line and column, whatever comes behind it."""
    with pytest.raises(RejectSummary) as refused:
        parse_summary(b'{"x": 1,\n"x": 2, "y": %s}' % rest)
    assert "line 2 column" in str(refused.value)


@pytest.mark.parametrize("end", [b"}", b""], ids=["closed", "broken"])
def test_key_twice_of_any_length_is_refused_with_a_short_reason(end: bytes) -> None:
    """A reason goes into messages: of ten million characters it quotes a few."""
    key = b"k" * 10 * MEGABYTE
    with pytest.raises(RejectSummary) as refused:
        parse_summary(b'{"%s":1,"%s":2%s' % (key, key, end))
    assert len(str(refused.value)) <= LONGEST_REASON


# -- Memory -----------------------------------------------------------------------------------------------------------


def _listed(item: bytes, before: bytes, after: bytes) -> bytes:
    """Four megabytes: a list of one item again and again."""
    return before + item * (4 * MEGABYTE // len(item)) + after


def _numbered(count: int, item: bytes, before: bytes, after: bytes) -> bytes:
    """So many items, each with a number of its own in place of `#`."""
    return before + b",".join(item.replace(b"#", b"%x" % number) for number in range(count)) + after


_END: Final = b'0],"models":[{"symbol":"A","final_pf":1}]}'
_WRONG: Final = b',"final_fitness":"x","final_pf":[],"final_max_dd":{},"checkpoints":[1.5],"fitness_history":["x"]'
_HISTORY: Final = b'{"models":[{"symbol":"A","fitness_history":['

MEMORY: Final[Mapping[str, Callable[[], bytes]]] = {
    "long-text": lambda: b'{"models":[{"symbol":"' + b"a" * 10 * MEGABYTE + b'"}]}',
    "long-note": lambda: b'{"note":"' + b"a" * 10 * MEGABYTE + b'","models":[{"symbol":"A","final_pf":1}]}',
    "blanks": lambda: b'{"models":[{"symbol":"A","final_pf":1}]' + b" " * 10 * MEGABYTE + b"}",
    "digits": lambda: b'{"x":' + b"9" * 10 * MEGABYTE + b"}",
    "depth": lambda: b"[" * 10 * MEGABYTE,
    "rubbish": lambda: b"\xff" * 10 * MEGABYTE,
    "long-history": lambda: _listed(b"0,", _HISTORY, b"0]}]}"),
    "long-history-of-nulls": lambda: _listed(b"null,", _HISTORY, b"0]}]}"),
    "empty-objects": lambda: _listed(b"{},", b'{"x":[', _END),
    "empty-lists": lambda: _listed(b"[],", b'{"x":[', _END),
    "many-fields": lambda: _numbered(400_000, b'"#":0', b"{", b',"models":[{"symbol":"A","final_pf":1}]}'),
    "most-models": lambda: _numbered(MAX_MODELS, b'{"symbol":"#","final_pf":1}', b'{"models":[', b"]}"),
    "most-models-by-key": lambda: _numbered(MAX_MODELS, b'"#":{"final_pf":1}', b'{"models":{', b"}}"),
    "most-wrong-models": lambda: _numbered(MAX_MODELS, b'{"symbol":"#"' + _WRONG + b"}", b'{"models":[', b"]}"),
    "most-foreign-models": lambda: _numbered(MAX_MODELS, b'{"symbol":"#","acc":0}', b'{"models":[', b"]}"),
    "long-history-of-texts": lambda: _listed(b'"x",', _HISTORY, b"0]}]}"),
    "too-many-models": lambda: _numbered(250_000, b'{"symbol":"#"}', b'{"models":[', b"]}"),
    "too-many-models-by-key": lambda: _numbered(400_000, b'"#":{}', b'{"models":{', b"}}"),
    "symbol-twice": lambda: _numbered(400_000, b'"#":{}', b'{"models":{', b',"0":{}}}'),
    "key-twice-behind-numbers": lambda: _listed(b"0,", b'{"x":[', b'0],"a":1,"a":2}'),
    "key-twice-behind-objects": lambda: _listed(b"{},", b'{"x":[', b'0],"a":1,"a":2}'),
    "key-twice-in-many-objects": lambda: _listed(b'{"a":0,"a":0},', b'{"x":[', b"0]}"),
}
"""Files that could take much memory."""


@pytest.mark.fuzz
@pytest.mark.parametrize("name", MEMORY)
def test_memory_of_one_input_is_bounded_by_its_size(
    name: str, tmp_path: Path, peak: Callable[[str, float], None]
) -> None:
    """Measured in a process of its own: the peak grows by no more than a fixed sum and so many times the input."""
    data = MEMORY[name]()
    file = tmp_path / "input"
    file.write_bytes(data)
    result = _python("-m", "fuzz.walk", tmp_path / "walk", file)
    assert result.returncode == 0, result.stderr
    growth = int(result.stdout)
    peak(f"fuzz, {name}: MiB that {len(data) / MEGABYTE:.0f} MiB of input took at most", round(growth / MEGABYTE, 1))
    assert growth <= FIXED_MEMORY + TIMES_THE_INPUT * len(data), f"{growth} bytes, {growth / len(data):.0f} times"


# -- Mutants ----------------------------------------------------------------------------------------------------------

MUTANTS: Final[Sequence[tuple[Mutant, str]]] = (
    (
        Mutant(
            "timestamp-as-written",
            "gate/summary.py",
            "timestamp=_timestamp(document, refuse)",
            'timestamp=read_text(document, "timestamp", refuse)',
        ),
        "the walk ended with",
    ),
    (
        Mutant("names-not-in-code-spans", "archive/report.py", 'return f"`{text}`"', "return text"),
        "markup in the report|not in a code span",
    ),
    (
        Mutant("run-name-as-it-is", "archive/report.py", "{code_span(run.run_name)}", "{run.run_name}"),
        "markup in the report|not in a code span",
    ),
    (
        Mutant("control-characters-allowed", "gate/values.py", "    if text.isprintable():\n", "    if True:\n"),
        "holds control characters|REJECTED was promised",
    ),
    (
        Mutant("any-length-allowed", "gate/values.py", "if not 1 <= len(text) <= longest:", "if longest < 0:"),
        "REJECTED was promised|characters was let through",
    ),
    (
        Mutant("keys-twice-allowed", "gate/json_object.py", ", catch_duplicate_keys=True", ""),
        "REJECTED was promised",
    ),
    (
        Mutant(
            "long-text-quoted-whole", "gate/json_object.py", "return text if len(text) <= _SHOWN else", "return text or"
        ),
        "LONGEST_REASON",
    ),
    (
        Mutant("place-left-out", "pipeline/walk.py", '"where": error.where', '"where": ""'),
        "the reason names no place",
    ),
    (
        Mutant(
            "large-numbers-fatal",
            "gate/values.py",
            "except OverflowError:\n        return",
            "except EOFError:\n        return",
        ),
        "the walk ended with OverflowError",
    ),
    (
        Mutant(
            "rejected-by-path",
            "pipeline/walk.py",
            "identity = summary.sha256[:16]",
            "identity = hashlib.sha256(os.fsencode(summary.found.path)).hexdigest()[:16]",
        ),
        "not kept",
    ),
)
"""Each with what the fuzz says of it."""


@pytest.mark.fuzz
@pytest.mark.parametrize(("mutant", "complaint"), MUTANTS, ids=[mutant.name for mutant, _ in MUTANTS])
def test_mutant_of_the_walk_is_caught_by_a_few_inputs_of_each_kind(
    mutant: Mutant, complaint: str, tmp_path: Path
) -> None:
    """A product with one mistake fails the few hundred inputs of every run of the tests, and for that mistake."""
    product = mutant.make(tmp_path / "product")
    result = _python("-m", "fuzz.walk", tmp_path / "walk", product=product)
    assert "AssertionError" in result.stderr, f"the mutant survived: {result.stdout}{result.stderr}"
    assert re.search(complaint, result.stderr), result.stderr[-2_000:]


def _python(*arguments: str | os.PathLike[str], product: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run Python with the tests on its path, and before them the product to test, where it is not the installed one."""
    paths = [*([str(product)] if product else []), str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = clean_environment({"PYTHONPATH": os.pathsep.join(paths)})
    return subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, encoding="utf-8", timeout=300, check=False
    )
