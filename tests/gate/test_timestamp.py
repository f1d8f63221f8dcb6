"""Whatever a summary, a file name or a clock says, a run's name is digits and one underscore, and sorts by age."""

import re
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from modelwarden.gate.timestamp import (
    format_timestamp,
    is_ahead,
    is_run_name,
    parse_timestamp,
    run_key,
    timestamp_in_name,
    timestamp_of_mtime,
)

pure = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

COMPACT = re.compile(r"[0-9]{8}_[0-9]{6}")
EPOCH = "19700101_000000"

HOSTILE = [
    "",
    " ",
    ".",
    "..",
    "../../etc/x",
    "/etc/passwd",
    "C:\\Windows",
    "20241224_153000/../../x",
    "../20241224_153000",
    "20241224_153000\n",
    "20241224_153000 ",
    "20241224_153000.json",
    "20241332_153000",
    "20240230_000000",
    "20241224_240000",
    "20241224_156000",
    "20241224_153060",
    "00000101_000000",
    "120241224_153000",
    "٢٠٢٤١٢٢٤_١٥٣٠٠٠",
    "\uff12\uff10\uff12\uff14\uff11\uff12\uff12\uff14_\uff11\uff15\uff13\uff10\uff10\uff10",
    "2024-12-24T15:30:00Z; rm -rf /",
    "2024-12-24T15:30:00+24:00",
    "2024-12-24T15:61:00",
    "2024-13-24",
    "1735054200",
    "now",
    "nan",
    "%Y%m%d",
    "{timestamp}",
    "$(date)",
    "\x00",
    "\ud800",
    "9" * 10_000,
]

moments = st.datetimes(
    timezones=st.one_of(
        st.none(), st.just(UTC), st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes)))
    )
)
run_names = st.builds(
    lambda moment, suffix: format_timestamp(moment) + ("" if suffix == 1 else f"_{suffix}"),
    st.datetimes(),
    st.integers(1, 9_999_999),
)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("20241224_153000", "20241224_153000"),
        ("2024-12-24T15:30:00", "20241224_153000"),
        ("2024-12-24 15:30:00", "20241224_153000"),
        ("2024-12-24T15:30", "20241224_153000"),
        ("2024-12-24", "20241224_000000"),
        ("20241224T153000", "20241224_153000"),
        ("2024-12-24T15:30:00.999999", "20241224_153000"),
        ("2024-12-24T15:30:00Z", "20241224_153000"),
        ("2024-12-24T15:30:00+00:00", "20241224_153000"),
        ("2024-12-24T15:30:00+05:30", "20241224_100000"),
        ("2024-12-24T15:30:00-08:00", "20241224_233000"),
        ("2024-12-31T23:30:00-01:00", "20250101_003000"),
        ("20241224T153000+0100", "20241224_143000"),
        ("2024-02-29T12:00:00Z", "20240229_120000"),
        ("0099-01-02T03:04:05", "00990102_030405"),
        ("9999-12-31T23:59:59", "99991231_235959"),
    ],
)
def test_parse_timestamp_accepted_form_is_utc_or_as_written(written: str, expected: str) -> None:
    """ISO 8601 or the compact form: with an offset it becomes UTC, without one it stays as written."""
    assert parse_timestamp(written) == expected


@pytest.mark.parametrize("text", HOSTILE)
def test_parse_timestamp_anything_else_is_none(text: str) -> None:
    """A path, a command, a date that does not exist: none of it becomes a name."""
    assert parse_timestamp(text) is None


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+05:00", "9999-12-31T23:59:59-05:00"])
def test_parse_timestamp_offset_that_leads_out_of_the_calendar_is_none(text: str) -> None:
    """There is no year 0 and no year 10000 to name a run after."""
    assert parse_timestamp(text) is None


@pure
@given(moments)
def test_parse_timestamp_any_moment_in_iso_is_that_moment(moment: datetime) -> None:
    """Every moment that Python writes is read back to the second, in UTC where it has an offset."""
    try:
        expected = moment if moment.tzinfo is None else moment.astimezone(UTC)
    except OverflowError:
        assert parse_timestamp(moment.isoformat()) is None
        return
    digits = re.sub(r"[^0-9]", "", expected.replace(microsecond=0, tzinfo=None).isoformat())
    assert parse_timestamp(moment.isoformat()) == f"{digits[:8]}_{digits[8:]}"


@pure
@given(st.one_of(st.text(), st.from_regex(r"[0-9]{4}-?[0-9]{2}-?[0-9]{2}[T _]?[0-9:+Z.]{0,20}", fullmatch=True)))
@example("2024-12-24T15:30:00\x00")
def test_parse_timestamp_any_text_is_none_or_digits(text: str) -> None:
    """Nothing a trainer writes leaves in any other form, and nothing raises."""
    timestamp = parse_timestamp(text)
    assert timestamp is None or COMPACT.fullmatch(timestamp)
    assert timestamp is None or is_run_name(timestamp)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("training_summary_20241224_153000.json", "20241224_153000"),
        ("20241224_153000", "20241224_153000"),
        ("20241224_153000_v2.json", "20241224_153000"),
        ("a20241224_153000b.json", "20241224_153000"),
        ("20241224_153000-20250101_000000.json", "20241224_153000"),
        ("20249999_999999_20241224_153000.json", "20241224_153000"),
        ("120241224_153000.json", None),
        ("20241224_1530001.json", None),
        ("20240230_000000.json", None),
        ("20241224-153000.json", None),
        ("summary.json", None),
        ("٢٠٢٤١٢٢٤_153000.json", None),
        ("", None),
    ],
)
def test_timestamp_in_name_first_valid_one_is_taken(name: str, expected: str | None) -> None:
    """A file name counts where it holds a real date in the compact form; longer runs of digits are no date."""
    assert timestamp_in_name(name) == expected


@pure
@given(
    st.one_of(st.text(), st.text("0123456789_"), st.binary().map(lambda raw: raw.decode("utf-8", "surrogateescape")))
)
def test_timestamp_in_name_any_file_name_is_none_or_digits(name: str) -> None:
    """File names are bytes from a stranger; what they give is a name of digits or nothing."""
    timestamp = timestamp_in_name(name)
    assert timestamp is None or (COMPACT.fullmatch(timestamp) and timestamp in name)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0.0, EPOCH),
        (1735054200.0, "20241224_153000"),
        (1735054200.999, "20241224_153000"),
        (-1.0, "19691231_235959"),
        (4102444800.0, "21000101_000000"),
    ],
)
def test_timestamp_of_mtime_is_the_time_in_utc(seconds: float, expected: str) -> None:
    """A file's time has no zone of its own: UTC, whatever the host's zone is."""
    assert timestamp_of_mtime(seconds) == expected


@pytest.mark.parametrize("seconds", [1e300, -1e300, 1e12, -1e12, float("inf"), float("-inf"), float("nan")])
def test_timestamp_of_mtime_outside_the_calendar_is_the_epoch(seconds: float) -> None:
    """A disk that reports nonsense does not keep a run out of the archive."""
    assert timestamp_of_mtime(seconds) == EPOCH


@pure
@given(st.floats())
def test_timestamp_of_mtime_any_number_gives_a_run_name(seconds: float) -> None:
    """The last resort never fails."""
    assert is_run_name(timestamp_of_mtime(seconds))


@pytest.mark.parametrize("name", ["20241224_153000", "20241224_153000_2", "20241224_153000_10"])
def test_is_run_name_of_a_run_is_true(name: str) -> None:
    """A timestamp, alone or with the suffix that a collision gave it."""
    assert is_run_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "20241224_153000_",
        "20241224_153000_0",
        "20241224_153000_02",
        "20241224_153000_2_3",
        "20241224_153000_x",
        "20241224_153000_2\n",
        "20241224_153000_99999999",
        "20241324_153000",
        "20241224-153000",
        "20241224_250000",
        ".staging",
        "rejected",
        "index.json",
        "20241224_153000_٢",
        *(text for text in HOSTILE if text not in {"20240230_000000", "00000101_000000"}),
    ],
)
def test_is_run_name_of_anything_else_is_false(name: str) -> None:
    """What people unzip into an archive is foreign and stays so."""
    assert not is_run_name(name)
    with pytest.raises(ValueError, match="is not a run's name"):
        run_key(name)


def test_is_run_name_suffix_one_is_foreign() -> None:
    """Suffixes begin at 2: a folder copied to `_1` must not pass for the run it was copied from."""
    assert not is_run_name("20241224_153000_1")


def test_run_key_sorts_suffixes_by_number() -> None:
    """`_10` comes after `_9`, and both after the run that had the name first."""
    suffixes = ["_9999999", "_10", "_9", "_2", ""]
    names = ["20241224_153001", *(f"20241224_153000{suffix}" for suffix in suffixes)]
    assert sorted(names, key=run_key) == list(reversed(names))


@pure
@given(st.lists(run_names, min_size=2, max_size=6, unique=True))
def test_run_key_of_any_names_sorts_oldest_first_and_is_one_a_name(names: list[str]) -> None:
    """The key orders runs by moment, then by suffix; no two names share one."""

    def age(name: str) -> tuple[str, int]:
        return name[:15], int(name[16:] or 1)

    assert sorted(names, key=run_key) == sorted(names, key=age)
    assert len({run_key(name) for name in names}) == len(names)


@pure
@given(run_names)
@example("99991231_235959_9999999")
@example("99991231_235959")
@example("00010101_000000")
def test_run_key_of_any_name_fits_an_integer_column(name: str) -> None:
    """SQLite keeps whole numbers of 63 bits: no run in any year may need more."""
    assert 0 <= run_key(name) < 2**63


@pytest.mark.parametrize(
    ("name", "archived_at", "ahead"),
    [
        ("20241225_153000", "2024-12-24T15:30:00.000000Z", False),
        ("20241225_153001", "2024-12-24T15:30:00.999999Z", True),
        ("20241225_153001_2", "2024-12-24T15:30:00Z", True),
        ("20241225_153000_17", "2024-12-24T15:30:00Z", False),
        ("20241225_163000", "2024-12-24T17:30:00+01:00", False),
        ("19700101_000000", "2024-12-24T15:30:00Z", False),
        ("99991231_235959", "2024-12-24T15:30:00Z", True),
        ("20241225_153001", "9999-12-31T15:30:00Z", False),
        ("20241225_153001", "yesterday", False),
    ],
)
def test_run_is_ahead_if_it_is_dated_more_than_a_day_after_it_was_archived(
    name: str, archived_at: str, ahead: bool
) -> None:
    """A day is what a timestamp without an offset may be off; a record that tells no time tells nothing."""
    assert is_ahead(name, archived_at) is ahead
