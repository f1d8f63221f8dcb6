"""Say which tests every one of these runs skipped, by their JUnit files; exit 1 if there is any."""

import sys
import xml.etree.ElementTree as ET

NOT_A_SKIP = "pytest.xfail"


def skipped(file: str) -> set[tuple[str | None, str | None]]:
    """The tests that the run did not do, as (class, name)."""
    cases = ET.parse(file).iter("testcase")  # noqa: S314 - pytest wrote it
    return {
        (case.get("classname"), case.get("name"))
        for case in cases
        if any(how.get("type") != NOT_A_SKIP for how in case.findall("skipped"))
    }


if __name__ == "__main__":
    by_all = set.intersection(*map(skipped, sys.argv[1:]))
    sys.exit("\n".join(f"skipped by all: {folder} {name}" for folder, name in sorted(by_all, key=str)) or 0)
