"""The picture of a report: each treatment's effect as a point on its interval."""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from precompute.evaluation.report import Line, Report

__all__ = ["save"]

_FAR = 300.0  # percent; beyond it a linear scale would hide all that is near

_COLOURS = {"better": "#11772d", "worse": "#b3261e", "not significant": "#888888"}


def save(report: Report, path: Path) -> None:
    """Write a picture with a panel for each metric, means only."""
    means = [line for line in report.lines if line.kind == "mean"]
    metrics = list(dict.fromkeys(line.metric for line in means))
    treatments = len({line.treatment for line in means})
    height = 0.7 + 0.32 * treatments
    figure = Figure(figsize=(8.0, 0.6 + height * len(metrics)), layout="constrained")
    title = f"{report.experiment}: effect against {report.control}, 95% interval"
    figure.suptitle(title, parse_math=False)
    panels = figure.subplots(len(metrics), 1, squeeze=False)[:, 0]
    for panel, metric in zip(panels, metrics, strict=True):
        _draw(panel, metric, [line for line in means if line.metric == metric])
    figure.savefig(path, dpi=120)


def _draw(panel: Axes, metric: str, lines: list[Line]) -> None:
    panel.axvline(0.0, color="#444444", linewidth=1)
    for row, line in enumerate(lines):
        effect, colour = line.effect, _COLOURS[line.verdict]
        panel.plot([effect.low, effect.high], [row, row], color=colour, linewidth=2)
        panel.plot([effect.percent], [row], "o", color=colour)
    if any(abs(line.effect.percent) > _FAR for line in lines):
        panel.set_xscale("symlog", linthresh=100.0)  # linear up to 100%
    panel.set_yticks(range(len(lines)), [line.treatment for line in lines], parse_math=False)
    panel.set_ylim(len(lines) - 0.5, -0.5)
    panel.set_title(metric, loc="left", fontsize="medium")
    panel.xaxis.set_major_formatter("{x:+g}%")
    panel.grid(axis="x", alpha=0.3)
