"""Off-policy estimates: by hand, and how often their intervals hold the truth."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import orjson
import pytest

from precompute.evaluation.events import read
from precompute.evaluation.offpolicy import Model, OffPolicyError, estimate, impressions


def test_estimates_by_hand() -> None:
    rewards = np.array([1.0, 0.0, 0.5])
    propensities, target = np.array([0.5, 0.25, 0.5]), np.array([1.0, 0.25, 0.0])
    # Weights 2, 1, 0.
    assert estimate(rewards, propensities, target, method="ips").value == pytest.approx(2 / 3)
    snips = estimate(rewards, propensities, target)
    assert snips.value == pytest.approx(2 / 3)  # 2 / (2 + 1)
    assert snips.effective == pytest.approx(9 / 5)
    model = Model(served=np.array([0.5, 0.5, 0.5]), target=np.array([0.6, 0.6, 0.6]))
    doubly = estimate(rewards, propensities, target, method="dr", model=model)
    # 0.6 + (2 * 0.5, 1 * -0.5, 0): 1.6, 0.1, 0.6.
    assert doubly.value == pytest.approx(2.3 / 3)


def test_interval_by_hand() -> None:
    found = estimate(np.array([1.0, 0.0]), np.ones(2), np.ones(2), method="ips")
    # Mean 0.5, standard error 0.5, t of one degree of freedom 12.706.
    assert (found.low, found.high) == pytest.approx((0.5 - 6.3531, 0.5 + 6.3531), abs=1e-3)


class Bandit:
    """A small world of its own: `[contexts, actions]` rewards and two policies."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.mean = rng.uniform(0.05, 0.95, (20, 10))
        self.logging = rng.dirichlet(np.ones(10), 20) * 0.8 + 0.02
        self.target = rng.dirichlet(np.ones(10), 20)
        self.truth = float((self.target * self.mean).sum() / 20)

    def log(self, rng: np.random.Generator, listeners: int, each: int) -> dict[str, Any]:
        """Logged rows; the rewards of one listener share a mood."""
        clusters = np.repeat(np.arange(listeners), each)
        context = rng.integers(20, size=len(clusters))
        chosen = self.logging.cumsum(axis=1)[context] < rng.random(len(clusters))[:, None]
        action = np.minimum(chosen.sum(axis=1), 9)
        mean = self.mean[context, action]
        mood = rng.uniform(-1, 1, listeners)[clusters] * np.minimum(mean, 1 - mean) * 0.8
        rewards = (rng.random(len(clusters)) < mean + mood).astype(float)
        rough = self.mean * 0.7 + 0.1
        return {
            "rewards": rewards,
            "propensities": self.logging[context, action],
            "target": self.target[context, action],
            "clusters": clusters,
            "model": Model(
                served=rough[context, action], target=(self.target * rough).sum(axis=1)[context]
            ),
        }


@pytest.mark.parametrize("method", ["ips", "snips", "dr"])
def test_intervals_hold_the_truth(method: Literal["ips", "snips", "dr"]) -> None:
    held = 0
    rounds = 400
    for seed in range(rounds):
        bandit = Bandit(seed)
        log = bandit.log(np.random.default_rng(10_000 + seed), listeners=400, each=8)
        if method != "dr":
            del log["model"]
        found = estimate(**log, method=method)
        held += found.low <= bandit.truth <= found.high
    assert 0.92 <= held / rounds <= 0.98  # 95% within 3 standard errors, and above the gate


def test_a_good_model_narrows_the_interval() -> None:
    bandit = Bandit(1)
    log = bandit.log(np.random.default_rng(0), listeners=2000, each=8)
    model = log.pop("model")
    plain = estimate(**log, method="ips")
    doubly = estimate(**log, method="dr", model=model)
    assert doubly.high - doubly.low < 0.8 * (plain.high - plain.low)


def test_rows_of_one_listener_widen_the_interval() -> None:
    rng = np.random.default_rng(0)
    mood = np.repeat(rng.uniform(0, 1, 200), 20)
    ones = np.ones(4000)
    alone = estimate(mood, ones, ones)
    together = estimate(mood, ones, ones, clusters=np.repeat(np.arange(200), 20))
    assert together.value == pytest.approx(alone.value)
    ratio = (together.high - together.low) / (alone.high - alone.low)
    assert ratio == pytest.approx(np.sqrt(20), rel=0.05)


def test_nonsense_is_refused() -> None:
    ones = np.ones(3)
    with pytest.raises(OffPolicyError, match="propensity"):
        estimate(ones, ones * 0, ones)
    with pytest.raises(OffPolicyError, match="target probability"):
        estimate(ones, ones, ones * 2)
    with pytest.raises(OffPolicyError, match="serve nothing"):
        estimate(ones, ones, ones * 0)
    with pytest.raises(OffPolicyError, match="at least two clusters"):
        estimate(ones, ones, ones, clusters=ones)
    with pytest.raises(OffPolicyError, match="goes with the method dr"):
        estimate(ones, ones, ones, method="dr")


def test_impressions_are_what_was_served_and_then_heard(tmp_path: Path) -> None:
    rows = [
        # session, track, time, served next, propensity
        ("a", 1, 1.0, 2, 0.5),
        ("a", 2, 0.25, 3, 0.1),
        ("a", 9, 0.75, 4, 0.2),  # something else was heard than served
        ("a", 4, 0.5, None, None),
        ("b", 4, 1.0, 5, None),  # no propensity
        ("b", 5, 1.0, 6, 0.9),  # never heard of again
    ]
    lines = [
        orjson.dumps(
            {
                "timestamp": number,
                "user": 7,
                "session": session,
                "track": track,
                "time": time,
                "message": "next",
                "recommendation": served,
                "propensity": propensity,
            }
        )
        for number, (session, track, time, served, propensity) in enumerate(rows)
    ]
    (tmp_path / "e.jsonl").write_bytes(b"\n".join(lines))
    found = impressions(read(tmp_path / "e.jsonl"))
    assert found.anchor.tolist() == [1, 9]
    assert found.anchor_time.tolist() == [1.0, 0.75]
    assert found.served.tolist() == [2, 4]
    assert found.propensity.tolist() == [0.5, 0.2]
    assert found.time.tolist() == [0.25, 0.5]
    assert found.user.tolist() == [7, 7]
