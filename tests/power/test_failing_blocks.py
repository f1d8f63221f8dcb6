"""Blocks that can't be written for a while: a failed sync is believed, said, and never tried again on the same file.

The rule: what is on the disk is read after the file system was mounted anew; before that the kernel shows pages whose
blocks failed as if they had been written.
"""

from pathlib import Path

import pytest

from rigs.disk_images import FILE_SYSTEMS, needs_file_system
from rigs.failing_blocks import TROUBLES, Findings
from rigs.mutants import PACKAGE, Mutant
from rigs.namespaces import run_privately
from rigs.needs import needs

pytestmark = pytest.mark.power

SECONDS = 100.0

MUTANTS = (
    Mutant(
        "a_failed_sync_is_tried_again",
        "durable.py",
        "        os.fsync(descriptor)\n",
        "        try:\n            os.fsync(descriptor)\n        except OSError:\n            os.fsync(descriptor)\n",
    ),
    Mutant(
        "a_failed_sync_is_passed_over",
        "durable.py",
        '        raise _failed_sync("fsync", path, error) from error\n',
        "        return\n",
    ),
)


def play(file_system: str, trouble: str, folder: Path, product: Path = PACKAGE.parent) -> Findings:
    """Let blocks fail while a summary arrives; mend them; see what became of it."""
    needs_file_system(FILE_SYSTEMS[file_system])
    needs(commands=("strace", "setpriv"))
    answer = run_privately("rigs.failing_blocks", folder, file_system, trouble, product=product, seconds=SECONDS)
    findings = Findings(**answer)
    assert findings.refused > 0, "no block failed"
    return findings


@pytest.mark.parametrize("trouble", TROUBLES)
@pytest.mark.parametrize("file_system", FILE_SYSTEMS)
def test_run_whose_blocks_failed_is_archived_whole_once_they_are_well(
    file_system: str, trouble: str, tmp_path: Path
) -> None:
    """It is not claimed before, begins again from its source with new files, and the disk then holds what was left."""
    findings = play(file_system, trouble, tmp_path / "lab")

    assert not findings.claimed_meanwhile
    assert findings.tried_again == []
    assert findings.wrong == ""


@pytest.mark.parametrize("trouble", TROUBLES)
def test_disk_that_refuses_a_sync_is_said_to_be_suspect(trouble: str, tmp_path: Path) -> None:
    """The operator reads where it failed and that the storage is suspect, and of no fault of modelwarden's own."""
    findings = play("ext4", trouble, tmp_path / "lab")

    assert findings.errors == []
    assert findings.reasons
    assert [reason for reason in findings.reasons if "storage suspect" not in reason] == []


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_rig_catches_the_mutant(mutant: Mutant, tmp_path: Path) -> None:
    """With this fault, on one file system at least, a run is claimed that the disk does not hold."""
    product = mutant.make(tmp_path / "product")
    for file_system in FILE_SYSTEMS:
        if play(file_system, "summary", tmp_path / file_system, product).wrong:
            return
    pytest.fail(f"{mutant.name} survived on {', '.join(FILE_SYSTEMS)}")
