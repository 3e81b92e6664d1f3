"""Seeded draws do not depend on who else is calling."""

from recsvc.draws import Draws


def test_a_listeners_draws_are_the_same_however_calls_are_interleaved() -> None:
    one, other = Draws(7), Draws(7)
    alone = [one.of(1).random() for _ in range(3)]
    mixed = []
    for _ in range(3):
        other.of(2).random()
        mixed.append(other.of(1).random())
    assert alone == mixed
    assert len(set(alone)) == 3
    assert [Draws(8).of(1).random() for _ in range(1)] != alone[:1]


def test_without_a_seed_one_generator_serves_all() -> None:
    draws = Draws()
    assert draws.of(1) is draws.of(2)
