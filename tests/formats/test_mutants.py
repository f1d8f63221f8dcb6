"""Mutants that the tests of formats must catch: each is the product with one promise about trainers' files broken.

The rule: a mutant names the test that is about its fault, and that test, run as it stands against the mutant, fails.
"""

from pathlib import Path
from typing import Final, NamedTuple

import pytest

from rigs.failing_tests import assert_fails
from rigs.mutants import Mutant

pytestmark = pytest.mark.cases


class Caught(NamedTuple):
    """A mutant, the file of tests, and the part of a test's name that tells which one is to catch it."""

    mutant: Mutant
    file: str
    test: str


CASES: Final = (
    Caught(
        Mutant(
            "keeps_a_line_that_has_no_end",
            "formats/readers.py",
            '    whole = data[: data.rfind(b"\\n") + 1].removeprefix(b"\\xef\\xbb\\xbf")',
            '    whole = data.removeprefix(b"\\xef\\xbb\\xbf")',
        ),
        "formats/test_readers.py",
        "test_unterminated_figure_is_dropped",
    ),
    Caught(
        Mutant(
            "lets_one_column_stand_twice",
            "formats/readers.py",
            "    if twice is not None:\n",
            "    if False:\n",
        ),
        "formats/test_readers.py",
        "test_key_that_stands_twice_is_refused",
    ),
    Caught(
        Mutant(
            "lets_python_merge_keys_before_jq",
            "formats/readers.py",
            "        document = read_json(data)\n",
            "        document = __import__('json').loads(data)\n",
        ),
        "formats/test_readers.py",
        "test_key_that_stands_twice_is_refused",
    ),
    Caught(
        Mutant(
            "takes_what_jq_makes_of_infinity_for_a_figure",
            "formats/normalising.py",
            "    return math.copysign(math.inf, figure) if abs(figure) >= sys.float_info.max else figure",
            "    return figure",
        ),
        "formats/test_sandbox.py",
        "test_figure_comes_back_as_it_was_written",
    ),
    Caught(
        Mutant(
            "lets_jq_write_nan_as_null",
            "formats/worker.py",
            'if isnan then "NaN" elif',
            "if isnan then null elif",
        ),
        "formats/test_presets.py",
        "test_diverged_run_is_not_approved_on_its_accuracy",
    ),
    Caught(
        Mutant(
            "counts_nothing_as_diverged",
            "formats/normalising.py",
            "            counts[at] += figure is not None and not math.isfinite(figure)",
            "            counts[at] += False",
        ),
        "formats/test_presets.py",
        "test_diverged_run_is_not_approved_on_its_accuracy",
    ),
    Caught(
        Mutant(
            "takes_any_unit",
            "formats/normalising.py",
            "        if not rule.least - _TOLERANCE <= point <= rule.most + _TOLERANCE:",
            "        if False:",
        ),
        "formats/test_presets.py",
        "test_figure_in_another_unit_refuses_the_file",
    ),
    Caught(
        Mutant(
            "judges_before_the_program_says_that_it_ended",
            "formats/normalising.py",
            "    if wish.if_complete and any(",
            "    if False and any(",
        ),
        "formats/test_presets.py",
        "test_hf_trainer_checkpoint_is_final_when_its_training_ended",
    ),
    Caught(
        Mutant(
            "waits_for_no_quiet",
            "formats/finality.py",
            "        if still < each.quiet:\n",
            "        if False:\n",
        ),
        "scenarios/test_formats.py",
        "test_file_rewritten_at_each_step_is_judged_when_it_is_quiet",
    ),
    Caught(
        Mutant(
            "takes_an_old_marker",
            "service/endings.py",
            "    return marker.st_mtime_ns >= modified",
            "    return marker is not None",
        ),
        "scenarios/test_formats.py",
        "test_file_with_a_marker_is_judged_when_the_marker_is_there",
    ),
    Caught(
        Mutant(
            "forgets_which_run_is_superseded",
            "pipeline/walk.py",
            "max(before, key=oldest_first, default=None))",
            "None)",
        ),
        "scenarios/test_formats.py",
        "test_file_written_again_supersedes_its_run",
    ),
    Caught(
        Mutant(
            "forgets_the_files_of_a_folder_but_one",
            "pipeline/walk.py",
            "        return self.members or ((self.path, self.fingerprint),)",
            "        return ((self.path, self.fingerprint),)",
        ),
        "scenarios/test_formats.py",
        "test_folder_of_trials_is_one_run_and_superseded",
    ),
    Caught(
        Mutant(
            "advises_a_checkpoint_that_is_gone",
            "formats/normalising.py",
            "[each if kept is None or str(each) in kept else None for each in ids]",
            "ids",
        ),
        "formats/test_presets.py",
        "test_hf_trainer_names_only_checkpoints_that_are_there",
    ),
    Caught(
        Mutant(
            "advises_a_checkpoint_that_was_written_over",
            "formats/normalising.py",
            "        ids = [each if last[each] == at else None for at, each in enumerate(ids)]\n",
            "",
        ),
        "formats/test_normalising.py",
        "test_checkpoint_that_was_written_over_is_not_named",
    ),
    Caught(
        Mutant(
            "keeps_the_rows_of_a_training_that_was_begun_anew",
            "formats/worker.py",
            "elif $at < .least then",
            "elif true then",
        ),
        "formats/test_presets.py",
        "test_what_a_training_began_anew_left_behind_is_not_judged",
    ),
    Caught(
        Mutant(
            "looks_for_checkpoints_outside_the_watched_folder",
            "pipeline/trainers.py",
            "        if is_inside(folder, root):",
            "        if True:",
        ),
        "pipeline/test_trainers.py",
        "test_checkpoints_outside_the_watched_folder_are_not_looked_for",
    ),
    Caught(
        Mutant(
            "gives_the_worker_the_daemons_environment",
            "formats/sandbox.py",
            "                env={},\n",
            "                env=None,\n",
        ),
        "formats/test_sandbox.py",
        "test_environment_is_empty",
    ),
    Caught(
        Mutant(
            "sets_no_limit_to_memory",
            "formats/worker.py",
            "    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))\n",
            "",
        ),
        "formats/test_enemy.py",
        "test_program_reaches_for_nothing",
    ),
    Caught(
        Mutant(
            "lets_a_file_have_the_channel",
            "formats/worker.py",
            "                channel.close()\n",
            "",
        ),
        "formats/test_sandbox.py",
        "test_process_of_a_file_has_no_descriptor",
    ),
    Caught(
        Mutant(
            "names_a_run_by_what_was_read_of_it",
            "service/trainings.py",
            "        return found._replace(data=made.original,",
            "        return found._replace(data=made.summary,",
        ),
        "scenarios/test_formats.py",
        "test_log_that_grows_is_one_run_at_its_end",
    ),
    Caught(
        Mutant(
            "reads_a_log_from_its_begin_at_each_look",
            "service/endings.py",
            "        if known is not None and least < known.line <= size:\n",
            "        if False:\n",
        ),
        "scenarios/test_formats.py",
        "test_log_that_grows_costs_what_is_added",
    ),
    Caught(
        Mutant(
            "reads_a_table_whole_at_each_row",
            "formats/presets/ultralytics.toml",
            "last_line = '^ *([0-9]+) *,'\n",
            "",
        ),
        "scenarios/test_formats.py",
        "test_log_that_grows_costs_what_is_added",
    ),
    Caught(
        Mutant(
            "reads_a_document_whole_at_each_row",
            "service/endings.py",
            "float(said[1]) >= float(goal[1]) - 1",
            "True",
        ),
        "scenarios/test_formats.py",
        "test_log_that_grows_costs_what_is_added[catboost]",
    ),
    Caught(
        Mutant(
            "takes_closing_brackets_for_the_last_line",
            "service/endings.py",
            'b" \\t\\r\\n]}"',
            'b" \\t\\r\\n"',
        ),
        "scenarios/test_formats.py",
        "test_document_that_is_whole_after_each_row",
    ),
    Caught(
        Mutant(
            "archives_files_of_no_one_moment",
            "pipeline/groups.py",
            "    if now is None or now[2:] != before[2:]:\n",
            "    if False:\n",
        ),
        "service/test_trainings.py",
        "test_group_that_changes_while_it_is_read",
    ),
    Caught(
        Mutant(
            "waits_for_the_worker",
            "service/trainings.py",
            "        answer.add_done_callback(lambda _: self._ring())\n",
            "        __import__('concurrent.futures').futures.wait([answer])\n",
        ),
        "scenarios/test_formats.py",
        "test_summaries_and_hints_do_not_wait_for_a_file",
    ),
    Caught(
        Mutant(
            "turns_while_it_waits",
            "service/trainings.py",
            "[path for path, key in self._late.items() if key not in self._asked]",
            "[*self._late]",
        ),
        "scenarios/test_formats.py",
        "test_file_that_is_written_while_it_is_asked_about",
    ),
    Caught(
        Mutant(
            "runs_pickles",
            "formats/readers.py",
            "allow_pickle=False",
            "allow_pickle=True",
        ),
        "formats/test_enemy.py",
        "test_pickle_in_an_array_is_never_run",
    ),
)


@pytest.mark.parametrize("caught", [pytest.param(each, id=each.mutant.name) for each in CASES])
def test_mutant_fails_its_test(tmp_path: Path, caught: Caught) -> None:
    """The test that is to notice this fault does."""
    assert_fails(caught.mutant, tmp_path, caught.file, caught.test, deadline=8)
