"""What was under way when the learner ended is tried again, then record by record; one that fails alone is left out."""

from pathlib import Path

import pytest

from streams.errors import RejectedEventError
from streams.learning.suspects import Suspects


def killed_during(folder: Path, records: dict[int, tuple[int, int]]) -> Suspects:
    """What the next start knows."""
    Suspects(folder).begin(records)
    return Suspects(folder)


def left_out(suspects: Suspects, partition: int, offset: int) -> bool:
    try:
        suspects.refuse_condemned(partition, offset)
    except RejectedEventError:
        return True
    return False


def test_after_two_failures_records_come_alone_and_the_one_that_fails_alone_is_left_out(tmp_path: Path) -> None:
    suspects = killed_during(tmp_path, {0: (5, 90), 2: (7, 9)})
    assert not suspects.hold(0, 50)
    suspects = killed_during(tmp_path, {0: (40, 120), 2: (1, 30)})
    assert [suspects.hold(0, offset) for offset in (39, 40, 90, 91)] == [False, True, True, False]
    assert [suspects.hold(2, offset) for offset in (6, 7, 9, 10)] == [False, True, True, False]
    assert not left_out(suspects, 0, 50)
    suspects = killed_during(tmp_path, {0: (50, 50)})
    assert [left_out(suspects, 0, offset) for offset in (49, 50, 51)] == [False, True, False]


def test_a_record_that_was_alone_is_left_out_at_the_third_start(tmp_path: Path) -> None:
    assert not left_out(killed_during(tmp_path, {1: (50, 50)}), 1, 50)
    assert left_out(killed_during(tmp_path, {1: (50, 60)}), 1, 50)


def test_ends_at_different_places_blame_nobody(tmp_path: Path) -> None:
    """As of a learner that is killed again and again while it does well."""
    for begin in range(0, 1000, 50):
        suspects = killed_during(tmp_path, {0: (begin, begin + 50)})
        assert not any(left_out(suspects, 0, offset) for offset in range(1100))


def test_what_went_well_is_not_suspected(tmp_path: Path) -> None:
    for _ in range(5):
        suspects = Suspects(tmp_path)
        suspects.begin({0: (5, 90)})
        suspects.end()
    assert not Suspects(tmp_path).hold(0, 50)


def test_an_exception_is_evidence_enough(tmp_path: Path) -> None:
    suspects = Suspects(tmp_path)
    suspects.failed({0: (5, 90)})
    assert suspects.hold(0, 50)
    assert not left_out(suspects, 0, 50)
    suspects.failed({0: (50, 50)})
    assert suspects.is_one
    suspects.failed({0: (70, 70)})
    assert [left_out(Suspects(tmp_path), 0, offset) for offset in (50, 60, 70)] == [True, False, True]


def test_what_a_checkpoint_has_passed_is_forgotten(tmp_path: Path) -> None:
    suspects = Suspects(tmp_path)
    suspects.failed({0: (50, 50)})
    suspects.passed({0: 50, 1: 900})
    assert left_out(suspects, 0, 50)
    suspects.passed({0: 51})
    assert not left_out(Suspects(tmp_path), 0, 50)


def test_what_a_checkpoint_has_not_passed_is_looked_at_closely_still(tmp_path: Path) -> None:
    suspects = Suspects(tmp_path)
    suspects.failed({0: (40, 90), 1: (5, 9)})
    suspects.passed({0: 60, 1: 10})
    assert (Suspects(tmp_path).hold(0, 70), Suspects(tmp_path).hold(1, 7)) == (True, False)


@pytest.mark.parametrize("content", ["", "{", '{"0": 7}', "[1]", '{"records": {}}'])
def test_files_that_were_cut_off_say_nothing(tmp_path: Path, content: str) -> None:
    for name in ("under-way", "suspects"):
        (tmp_path / name).write_text(content)
    assert not Suspects(tmp_path).hold(0, 5)
