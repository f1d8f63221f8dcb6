"""A destination's URL is found in each of the places where it may stand, and no message repeats it."""

from pathlib import Path

import pytest

from modelwarden.config.model import DestinationTable
from modelwarden.config.urls import url_of
from modelwarden.errors import StopService

URL = "slack://T0KENA/T0KENB/T0KENC"


def table(**place: str) -> DestinationTable:
    """A destination whose URL stands there."""
    return DestinationTable.model_validate({"name": "team", "on": ["APPROVED"], **place})


@pytest.mark.parametrize("place", ["url", "url_file", "url_credential"])
def test_url_is_read_from_where_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    """In the settings, in a file of its own or in a systemd credential; a file may end in a line end."""
    (tmp_path / "team-url").write_text(f"{URL}\n", encoding="utf-8")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    stands = {"url": URL, "url_file": str(tmp_path / "team-url"), "url_credential": "team-url"}

    assert url_of(table(**{place: stands[place]})) == URL


@pytest.mark.parametrize(
    ("data", "says"),
    [(b" \n", "is empty"), (URL.encode() + b"\xff", "(not UTF-8)"), (None, "(No such file or directory)")],
    ids=["empty", "no text", "missing"],
)
def test_url_file_that_can_not_be_used_is_named(tmp_path: Path, data: bytes | None, says: str) -> None:
    """Destination, file and reason are told; nothing of what the file has."""
    file = tmp_path / "team-url"
    if data is not None:
        file.write_bytes(data)

    with pytest.raises(StopService) as caught:
        url_of(table(url_file=str(file)))

    assert 'destination "team"' in str(caught.value)
    assert str(file) in str(caught.value)
    assert says in str(caught.value)
    assert "T0KEN" not in str(caught.value)


def test_credential_without_systemd_says_what_to_add(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command in a terminal has no credentials: the unit's line is named."""
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    with pytest.raises(StopService, match="LoadCredential="):
        url_of(table(url_credential="team-url"))
