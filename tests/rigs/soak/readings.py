"""What the kernel tells of a process: its memory, its open files, its children.

The rule: a process that ends meanwhile has none of them; nothing here raises for that.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path


def resident_mib(pid: int) -> float:
    """Resident memory now."""
    return _status(pid, "VmRSS") / 1024


def peak_mib(pid: int) -> float:
    """The largest resident memory so far."""
    return _status(pid, "VmHWM") / 1024


def open_files(pid: int) -> list[str]:
    """What each open descriptor leads to, sorted; the numbers of pipes, which say nothing, are left out."""
    found = []
    with suppress(FileNotFoundError, ProcessLookupError):
        for entry in os.scandir(f"/proc/{pid}/fd"):
            with suppress(FileNotFoundError):
                found.append(os.readlink(entry.path).partition(":[")[0])
    return sorted(found)


def children(pid: int) -> dict[int, str]:
    """The running children, and the command line of each; every thread has children of its own."""
    found = {}
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(FileNotFoundError, ProcessLookupError):
            for child in map(int, file.read_text().split()):
                if line := _command_line(child):
                    found[child] = line
    return found


def called(pid: int) -> str:
    """The name of a process; empty for one that has ended."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return ""


def processes_with(variable: str, value: str) -> dict[int, str]:
    """The running processes that have this in their environment, and the command line of each."""
    wanted = f"{variable}={value}".encode()
    return {pid: line for pid in _processes() if wanted in _environment(pid) and (line := _command_line(pid))}


def _processes() -> Iterator[int]:
    return (int(name) for name in os.listdir("/proc") if name.isdecimal())


def _environment(pid: int) -> list[bytes]:
    with suppress(OSError):  # gone, or another user's
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return []


def _command_line(pid: int) -> str:
    """Empty for one that has ended, whether somebody asked for its exit code or not."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace").replace("\0", " ").strip()
    return ""


def _status(pid: int, name: str) -> int:
    with suppress(FileNotFoundError, ProcessLookupError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1])
    return 0
