"""An error says where, what and what to do about it; its class says what the caller does next."""

import pytest

from modelwarden.errors import (
    ModelwardenError,
    RejectSummary,
    RetryLater,
    StopService,
    StorageSuspect,
    UnknownRun,
)

KINDS = (RejectSummary, RetryLater, StorageSuspect, StopService, UnknownRun)


@pytest.mark.parametrize(
    ("what", "where", "hint", "message"),
    [
        ("no models", "", "", "no models"),
        ("missing", "models[3].final_pf", "", "models[3].final_pf: missing"),
        ("no models", "", "give at least one", "no models: give at least one"),
        ("missing", "models[3]", "give it", "models[3]: missing: give it"),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_message_is_place_then_problem_then_hint_without_what_is_empty(
    kind: type[ModelwardenError], what: str, where: str, hint: str, message: str
) -> None:
    """A person reads where, what and the remedy in one line, with no empty parts."""
    error = kind(what, where=where, hint=hint)

    assert str(error) == message
    assert (error.what, error.where, error.hint) == (what, where, hint)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_caught_as_an_error_of_modelwarden(kind: type[ModelwardenError]) -> None:
    """A command needs one except clause, and every kind has an exit code that is not success."""
    assert issubclass(kind, ModelwardenError)
    assert kind.exit_code != 0


def test_failed_fsync_is_tried_again_later_like_any_refusal_of_the_disk() -> None:
    """Who handles RetryLater handles a suspect disk too."""
    assert issubclass(StorageSuspect, RetryLater)


def test_reject_retry_and_stop_are_never_one_another() -> None:
    """The three kinds are told apart by class alone."""
    kinds = (RejectSummary, RetryLater, StopService)

    assert [(a, b) for a in kinds for b in kinds if a is not b and issubclass(a, b)] == []


def test_unknown_run_is_a_lookup_error_to_who_does_not_know_the_project() -> None:
    """The Python API's answer to an unknown run is one that Python programmers expect."""
    assert issubclass(UnknownRun, LookupError)
