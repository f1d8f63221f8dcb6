"""Mutants: the product with one line changed, to prove that a rig would notice.

The rule: a mutation names the text that it replaces, and that text stands exactly once in the file; a mutation that no
longer fits the product can't be made, so that no rig is proven by a mutant that is none. It is seen where it is
declared: with any run of the tests, whichever of them are selected.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

import modelwarden

PACKAGE = Path(modelwarden.__file__).parent


@dataclass(frozen=True)
class Mutant:
    """One mutation of the product.

    Attributes:
        name: what is wrong with it, as a test's name has it.
        file: the module, relative to the package.
        text: what is replaced; exactly once in the file.
        by: what stands there instead.

    Raises:
        ValueError: the text does not stand in the file, or more than once.
    """

    name: str
    file: str
    text: str
    by: str

    def __post_init__(self) -> None:
        if (times := self._source().count(self.text)) != 1:
            raise ValueError(f"mutant {self.name}: its text stands {times} times in {self.file}")

    def _source(self) -> str:
        return (PACKAGE / self.file).read_text(encoding="utf-8")

    def make(self, folder: Path) -> Path:
        """Copy the package with the mutation into a new folder; return what PYTHONPATH must be to run it."""
        shutil.copytree(PACKAGE, folder / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__"))
        module = folder / PACKAGE.name / self.file
        module.write_text(self._source().replace(self.text, self.by), encoding="utf-8")
        return folder
