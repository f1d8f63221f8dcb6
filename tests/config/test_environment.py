"""Settings in the environment: what sets a place, what sets none and is told, and what is nobody's business."""

import pytest

from modelwarden.config.environment import read_environment


def test_variables_make_one_document() -> None:
    """Two underscores lead into a table; numbers are numbers, lists are JSON, upper and lower case are the same."""
    read = read_environment(
        {
            "MODELWARDEN_ARCHIVE_DIR": "/srv/archive",
            "MODELWARDEN_LOG__LEVEL": "debug",
            "modelwarden_intake__settle_seconds": "0.5",
            "MODELWARDEN_WATCH": '[{"path": "/out"}]',
        }
    )

    assert read.values == {
        "archive_dir": "/srv/archive",
        "log": {"level": "debug"},
        "intake": {"settle_seconds": 0.5},
        "watch": [{"path": "/out"}],
    }
    assert read.names["intake", "settle_seconds"] == "modelwarden_intake__settle_seconds"
    assert read.wrong == {}


def test_variable_of_a_setting_outranks_that_of_its_table() -> None:
    """What is more exact counts, in whatever order they stand."""
    both = {"MODELWARDEN_LOG__LEVEL": "debug", "MODELWARDEN_LOG": '{"level": "error"}'}
    for environment in (both, dict(reversed(both.items()))):
        assert read_environment(environment).values == {"log": {"level": "debug"}}


def test_other_programs_variables_are_nobodys_business() -> None:
    """Neither those without the prefix nor the one that names the config file set or complain of anything."""
    read = read_environment({"PATH": "/bin", "LOG__LEVEL": "debug", "MODELWARDEN_CONFIG": "/etc/mw.toml"})
    assert (read.values, read.wrong) == ({}, {})


@pytest.mark.parametrize(
    ("name", "value", "told", "says"),
    [
        ("MODELWARDEN_LOG__LEVLE", "debug", "MODELWARDEN_LOG__LEVLE", "did you mean MODELWARDEN_LOG__LEVEL?"),
        ("MODELWARDEN_WATCH", "/out", "MODELWARDEN_WATCH", 'give JSON, such as [{"path": "/srv/incoming"}]'),
        ("MODELWARDEN_xoxb-123-s3cret", "x", "MODELWARDEN_* (27 characters)", "there is no such setting"),
    ],
)
def test_variable_that_sets_nothing_is_told(name: str, value: str, told: str, says: str) -> None:
    """A mistake, not somebody else's; by its name only where that can be no secret, and never with its value."""
    read = read_environment({name: value})
    assert read.values == {}
    assert list(read.wrong) == [told]
    assert says in read.wrong[told]
    assert "s3cret" not in str(read.wrong)
