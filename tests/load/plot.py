"""Results as a picture: throughput, latency at fixed rates, and how flat the costs are."""

from collections.abc import Callable
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Picture

from tests.load.figures import Figure, Results

__all__ = ["save"]

_PERCENTILES = ("p50", "p90", "p99", "p99.9")
_FLAT = ("listened", "catalogue", "listeners")


def save(results: Results, path: Path) -> bool:
    """Write a picture with a panel for each thing that was measured; tell whether any was."""
    panels: list[Callable[[Axes], None]] = []
    figures = list(results.figures.values())
    if closed := [f for f in figures if f.key.section == "closed" and f.key.metric == "rate"]:
        panels.append(lambda axes: _throughput(axes, closed))
    if opened := [f for f in figures if f.key.section == "open" and f.key.metric in _PERCENTILES]:
        panels.append(lambda axes: _latency(axes, opened))
    if flat := [f for f in figures if f.key.section in _FLAT and f.key.metric == "p50"]:
        panels.append(lambda axes: _costs(axes, flat))
    if not panels:
        return False
    picture = Picture(figsize=(8.0, 3.6 * len(panels)), layout="constrained")
    rows = picture.subplots(len(panels), 1, squeeze=False)[:, 0]
    for draw, axes in zip(panels, rows, strict=True):
        draw(axes)
    picture.savefig(path, dpi=110)
    return True


def _throughput(axes: Axes, figures: list[Figure]) -> None:
    cases = list(dict.fromkeys(figure.key.case for figure in figures))
    loads = list(dict.fromkeys(figure.key.load for figure in figures))
    height = 0.8 / len(loads)
    for number, load in enumerate(loads):
        values = {f.key.case: f.median for f in figures if f.key.load == load}
        rows = [row + number * height for row, case in enumerate(cases) if case in values]
        bars = axes.barh(rows, list(values.values()), height=height, label=load)
        axes.bar_label(bars, fmt="{:,.0f}", padding=3, fontsize="small")
    axes.set_yticks([row + 0.4 - height / 2 for row in range(len(cases))], cases)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set_title("answers a second, closed loop", loc="left")
    axes.legend(fontsize="small", loc="lower right")


def _latency(axes: Axes, figures: list[Figure]) -> None:
    for case, load in dict.fromkeys((f.key.case, f.key.load) for f in figures):
        values = [
            next(
                f.median
                for f in figures
                if (f.key.case, f.key.load, f.key.metric) == (case, load, p)
            )
            for p in _PERCENTILES
        ]
        axes.plot(_PERCENTILES, values, marker="o", label=f"{case}, {load}")
    axes.set_yscale("log")
    axes.set_ylabel("ms")
    axes.set_title("latency from the intended start, open loop", loc="left")
    # Below, as the lines may be anywhere.
    axes.legend(fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=3)
    axes.grid(axis="y", alpha=0.3)


def _costs(axes: Axes, figures: list[Figure]) -> None:
    single = [figure for figure in figures if figure.key.load == "1 connection"]
    smallest: dict[str, float] = {}
    for figure in single:
        smallest.setdefault(figure.key.section, figure.median)
    names = [figure.key.case for figure in single]
    values = [figure.median / smallest[figure.key.section] for figure in single]
    bars = axes.barh(names, values, color="#4477aa")
    axes.bar_label(bars, fmt="{:.2f}", padding=3, fontsize="small")
    axes.axvline(1.0, color="#444444", linewidth=1)
    axes.invert_yaxis()
    axes.margins(x=0.1)
    axes.set_title("p50 at 1 connection, against the smallest case of its kind", loc="left")
