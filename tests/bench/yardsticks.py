"""What the disk can do with the same bytes: bare loops that publish runs durably and do nothing else.

The rule: a yardstick makes the same promise as modelwarden (all three files and the folder synced, the rename synced)
and parses, judges, locks, indexes and records nothing.
"""

import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

BATCH = 64
THREADS = 8

Files = Mapping[str, bytes]


def publish_alone(archive: Path, name: str, files: Files) -> float:
    """Publish one run on this thread; return the seconds it took."""
    began = time.perf_counter()
    _stage(archive, name, files)
    os.rename(archive / f".{name}", archive / name)
    _sync(archive)
    return time.perf_counter() - began


def publish_all(archive: Path, runs: Sequence[tuple[str, Files]]) -> float:
    """Publish runs on 8 threads, one sync of the archive a batch of 64; return the seconds it took."""
    began = time.perf_counter()
    with ThreadPoolExecutor(THREADS) as pool:
        for start in range(0, len(runs), BATCH):
            batch = runs[start : start + BATCH]
            for done in [pool.submit(_stage, archive, name, files) for name, files in batch]:
                done.result()
            for name, _ in batch:
                os.rename(archive / f".{name}", archive / name)
            _sync(archive)
    return time.perf_counter() - began


def _stage(archive: Path, name: str, files: Files) -> None:
    folder = f"{archive}/.{name}"
    os.mkdir(folder)
    for file, data in files.items():
        descriptor = os.open(f"{folder}/{file}", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        os.write(descriptor, data)
        os.fsync(descriptor)
        os.close(descriptor)
    _sync(folder)


def _sync(folder: str | Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
