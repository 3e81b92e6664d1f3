"""When the breaker opens, how it probes, when it closes."""

from random import Random

from recsvc.outage.breaker import Breaker


def breaker(failures: int = 3, longest: float = 1.0) -> Breaker:
    return Breaker(failures=failures, longest=longest, rng=Random(1))


def test_it_is_time_to_open_after_so_many_failures_in_a_row() -> None:
    asked = breaker()
    assert [asked.failed(), asked.failed()] == [False, False]
    asked.succeeded()
    assert [asked.failed() for _ in range(4)] == [False, False, True, True]


def test_it_opens_and_closes_and_says_so_once() -> None:
    asked = breaker()
    assert [asked.open(2.0), asked.open(3.0)] == [True, False]
    assert (asked.is_open, asked.since, asked.openings) == (True, 2.0, 1)
    asked.close(4.0)
    assert not asked.is_open
    assert [asked.failed() for _ in range(3)] == [False, False, True]  # from the start again


def test_the_first_probe_comes_at_once_and_the_pauses_double_up_to_the_longest() -> None:
    asked = breaker()
    asked.open(10.0)
    pauses = [asked.pause() for _ in range(12)]
    assert pauses[0] == 0.0
    for step, pause in enumerate(pauses[1:]):
        full = min(0.05 * 2**step, 1.0)
        assert full / 2 <= pause <= full
    assert len(set(pauses[6:])) == 6  # spread at random


def test_one_that_flaps_goes_on_with_long_pauses() -> None:
    asked = breaker()
    asked.open(10.0)
    for _ in range(8):
        asked.pause()
    asked.close(20.0)
    asked.open(21.0)
    assert asked.pause() >= 0.5
    asked.close(30.0)
    asked.open(40.0)
    assert asked.pause() == 0.0
