"""The time left: it goes down between reports, and follows the pace that stages have."""

from collections.abc import Callable

import pytest

from erasepro_convert.cli.time_left import FULL_SIZE, TimeLeft, expected_seconds

Wait = Callable[[float], None]


@pytest.fixture
def wait(monkeypatch: pytest.MonkeyPatch) -> Wait:
    now = [100.0]
    monkeypatch.setattr("erasepro_convert.cli.time_left.monotonic", lambda: now[0])
    return lambda seconds: now.__setitem__(0, now[0] + seconds)


def test_it_goes_down_between_reports_and_not_below_zero(wait: Wait) -> None:
    left = TimeLeft({})
    left.report("verify", 0, 10)
    wait(5)
    left.report("verify", 5, 10)
    assert left.left() == pytest.approx(5)
    wait(3)
    assert left.left() == pytest.approx(2)
    wait(30)
    assert left.left() == 0


def test_nothing_is_guessed_before_the_size_and_the_stage_are_known(wait: Wait) -> None:
    left = TimeLeft(expected_seconds(1, is_trained=False))
    assert left.left() is None
    left.report("hash", 1, 10)
    left.report("language", 0, 100)
    assert left.left() is None
    left.report("write", 0, int(FULL_SIZE))
    assert left.left() == pytest.approx(39 + 5.6 + 2)


def test_a_small_file_is_expected_to_take_less(wait: Wait) -> None:
    left = TimeLeft(expected_seconds(1, is_trained=False))
    left.report("language", 0, 100)
    left.report("write", 0, int(FULL_SIZE / 10))
    assert left.left() == pytest.approx(4.66)


def test_what_comes_has_the_pace_of_what_was(wait: Wait) -> None:
    left = TimeLeft({"language": 10, "erase": 5, "probe": 1})
    left.report("write", 0, int(FULL_SIZE))
    left.report("language", 0, 100)
    wait(10)
    left.report("language", 50, 100)
    assert left.left() == pytest.approx(10 + 2 * 6), "half as fast as expected"
    wait(10)
    left.report("language", 100, 100)
    left.report("erase", 0, 68)
    assert left.left() == pytest.approx(2 * 6)


def test_a_stage_that_the_cache_had_is_not_waited_for(wait: Wait) -> None:
    left = TimeLeft(expected_seconds(1, is_trained=False))
    left.report("write", 0, int(FULL_SIZE))
    left.report("erase", 0, 68)
    assert left.left() == pytest.approx(5.6 + 2)


def test_what_goes_on_beside_can_be_the_longest(wait: Wait) -> None:
    left = TimeLeft({"erase": 1})
    left.report("erase", 0, 68)
    left.report("write", 0, int(FULL_SIZE))
    wait(10)
    left.report("erase", 68, 68)
    left.report("write", int(FULL_SIZE / 4), int(FULL_SIZE))
    assert left.left() == pytest.approx(30)


def test_a_stage_can_run_again(wait: Wait) -> None:
    left = TimeLeft({"erase": 10})
    left.report("write", 0, int(FULL_SIZE))
    for _ in range(2):
        left.report("erase", 0, 68)
        wait(10)
        left.report("erase", 34, 68)
        assert left.left() == pytest.approx(10)
