"""Assignments: equal to the formula they must carry over, sticky, independent."""

from collections import Counter

import mmh3
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2_contingency, chisquare

from recsvc.errors import ExperimentError
from recsvc.experiment import Experiment, Experiments, Treatment, parse

NAMES = st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789", min_size=1, max_size=20)


@given(NAMES, st.integers(0, 2**63 - 1), st.integers(1, 8))
def test_equal_shares_split_by_the_formula(name: str, user: int, n: int) -> None:
    experiment = Experiment(name, [Treatment(f"T{i}") for i in range(n)])
    seed = mmh3.hash(name) & 0xFFFFFFFF
    assert experiment.assign(user).name == f"T{mmh3.hash(str(user), seed, signed=False) % n}"


def test_known_answers() -> None:
    half = Experiment("AA", [Treatment("C", 0.5), Treatment("T", 0.5)])
    expected = [
        "CT"[mmh3.hash(str(user), mmh3.hash("AA", signed=False), signed=False) % 2]
        for user in range(20)
    ]
    assert [half.assign(user).name for user in range(20)] == expected
    assert set(expected) == {"C", "T"}


@pytest.mark.parametrize(("shares", "parts"), [((0.9, 0.1), (9, 1)), ((1, 2, 1), (1, 2, 1))])
def test_shares_are_kept(shares: tuple[float, ...], parts: tuple[int, ...]) -> None:
    experiment = Experiment("S", [Treatment(str(i), s) for i, s in enumerate(shares)])
    count = Counter(experiment.assign(user).name for user in range(20_000))
    expected = [20_000 * part / sum(parts) for part in parts]
    assert chisquare([count[str(i)] for i in range(len(parts))], expected).pvalue > 1e-4


def test_two_experiments_are_independent() -> None:
    arms = [Treatment("C"), Treatment("T")]
    one, other = Experiment("ONE", arms), Experiment("OTHER", arms)
    cells = Counter((one.assign(u).name, other.assign(u).name) for u in range(20_000))
    table = [[cells[a, b] for b in "CT"] for a in "CT"]
    assert chi2_contingency(table).pvalue > 1e-4


def test_another_salt_is_another_split() -> None:
    arms = [Treatment("C"), Treatment("T")]
    one, other = Experiment("X", arms), Experiment("X", arms, salt="Y")
    assert any(one.assign(u) != other.assign(u) for u in range(100))
    assert all(other.assign(u) == Experiment("Y", arms).assign(u) for u in range(100))


FILE = """
[[experiment]]
name = "LADDER"
treatments = [{name = "C", policy = "contextual"}, {name = "T1", policy = "ensemble"}]

[[experiment]]
name = "AA"
treatments = [{name = "C"}, {name = "T"}]

[[experiment]]
name = "OLD"
on = false
treatments = [{name = "C", policy = "contextual"}]
"""


def test_a_file_is_read() -> None:
    experiments = parse(FILE, {"contextual", "ensemble"})
    assert [e.name for e in experiments.experiments] == ["LADDER", "AA"]
    assignment = experiments.assign(1)
    assert set(assignment.treatments) == {"LADDER", "AA"}
    assert assignment.policy in {"contextual", "ensemble"}
    assert Experiments().assign(1).policy is None
    assert parse("", set()).experiments == ()


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        ('policy = "ensemble"', 'policy = "magic"', "there is no policy 'magic'"),
        ("on = false", "on = true", "LADDER and OLD both name policies"),
        ('name = "AA"', 'name = "LADDER"', "experiment LADDER is declared twice"),
        ('{name = "T"}', '{name = "C"}', "AA: treatment C is declared twice"),
        ('{name = "T"}', '{name = "T", share = 0}', "share"),
        ('{name = "T"}', '{name = "T", shape = 1}', "shape"),
        ("[[experiment]]", "[experiment", "not TOML"),
    ],
)
def test_what_makes_no_sense_is_refused(before: str, after: str, reason: str) -> None:
    with pytest.raises(ExperimentError, match=reason):
        parse(FILE.replace(before, after, 1), {"contextual", "ensemble"})
