"""The list of cases: each case of watching has its test, under its number.

The rule: a case is one test function, `test_case_NN_...`, with as many parameters as it has sides.
"""

import re
from pathlib import Path
from typing import Final

import pytest

pytestmark = pytest.mark.cases

CASES: Final = range(1, 56)
"""The numbers of the cases in the specification of watching."""


def test_every_case_has_its_test() -> None:
    """All numbers from 1 to 55 occur, each once."""
    modules = Path(__file__).parent.glob("test_*.py")
    found = [
        number for each in modules for number in re.findall(r"^def test_case_(\d\d)_", each.read_text(), re.MULTILINE)
    ]
    assert sorted(map(int, found)) == list(CASES)
