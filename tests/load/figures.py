"""What was measured: figures with their rounds, ratios between them, and what moved."""

from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

__all__ = ["Figure", "Key", "Ratio", "Results", "Shift", "compare", "spread"]

# A ratio that moved by less than this says nothing, however steady its rounds were.
_LEAST_SHIFT = 0.10


@dataclass(frozen=True, slots=True)
class Key:
    """What a figure is about."""

    section: str
    case: str
    load: str
    metric: str


@dataclass(slots=True)
class Figure:
    """One quantity as it was measured round after round."""

    key: Key
    unit: str
    rounds: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """Return the median of the rounds."""
        return median(self.rounds)


@dataclass(frozen=True, slots=True)
class Ratio:
    """A figure against another of the same rounds, which is what a machine cannot change.

    `more` tells whether a larger one is better.
    """

    name: str
    rounds: list[float]
    more: bool

    @property
    def median(self) -> float:
        """Return the median of the rounds."""
        return median(self.rounds)


@dataclass(frozen=True, slots=True)
class Shift:
    """A ratio now and in an earlier result. `verdict` is better, worse or same."""

    name: str
    before: float
    now: float
    threshold: float
    verdict: str


class Results:
    """Collects the figures of one run."""

    def __init__(self) -> None:
        self.figures: dict[Key, Figure] = {}
        self.ratios: dict[str, Ratio] = {}
        self.notes: list[str] = []
        self.unmeasured: list[str] = []

    def add(self, key: Key, unit: str, value: float) -> None:
        """Add a round to a figure."""
        self.figures.setdefault(key, Figure(key, unit)).rounds.append(value)

    def ratio(self, name: str, figure: Key, base: Key, *, more: bool) -> None:
        """Relate a figure to a base, round by round."""
        pairs = zip(self.figures[figure].rounds, self.figures[base].rounds, strict=False)
        self.ratios[name] = Ratio(name, [value / other for value, other in pairs], more)

    def document(self) -> dict[str, Any]:
        """Return everything as JSON has it."""
        return {
            "figures": [
                {
                    **asdict(figure.key),
                    "unit": figure.unit,
                    "median": _round(figure.median),
                    "spread": _round(spread(figure.rounds)),
                    "rounds": [_round(value) for value in figure.rounds],
                }
                for figure in self.figures.values()
            ],
            "ratios": [
                {
                    "name": ratio.name,
                    "better": "more" if ratio.more else "less",
                    "median": _round(ratio.median),
                    "spread": _round(spread(ratio.rounds)),
                    "rounds": [_round(value) for value in ratio.rounds],
                }
                for ratio in self.ratios.values()
            ],
            "notes": self.notes,
        }


def spread(rounds: list[float]) -> float:
    """Return half of the range of the rounds, as a share of their median."""
    middle = median(rounds)
    return (max(rounds) - min(rounds)) / 2 / middle if middle else 0.0


def compare(results: Results, before: dict[str, Any]) -> list[Shift]:
    """Compare the ratios with those of an earlier document, as far as both have them.

    One has moved when it changed by more than both spreads together, and by a tenth.
    """
    earlier = {ratio["name"]: ratio for ratio in before["ratios"]}
    shifts = []
    for name, ratio in results.ratios.items():
        if name not in earlier:
            continue
        old = earlier[name]["median"]
        threshold = max(_LEAST_SHIFT, earlier[name]["spread"] + spread(ratio.rounds))
        change = ratio.median / old - 1.0
        verdict = "same"
        if abs(change) > threshold:
            verdict = "better" if (change > 0) == ratio.more else "worse"
        shifts.append(Shift(name, old, ratio.median, threshold, verdict))
    return shifts


def _round(value: float) -> float:
    return float(f"{value:.4g}")
