"""Results as tables for a terminal."""

from typing import Any

from rich.console import Console
from rich.table import Table

from tests.load.figures import Figure, Results, Shift, spread

__all__ = ["show"]

_COLOURS = {"better": "green", "worse": "red", "same": ""}


def show(
    results: Results, machine: dict[str, Any], shifts: list[Shift] | None, console: Console
) -> None:
    """Print the machine, a table for each section, the ratios, and what moved."""
    console.print(_machine(machine))
    sections = dict.fromkeys(key.section for key in results.figures)
    for section in sections:
        found = [f for f in results.figures.values() if f.key.section == section]
        console.print(_section(section, found))
    if results.ratios:
        console.print(_ratios(results, {shift.name: shift for shift in shifts or []}))
    for note in results.notes:
        console.print(f"beware: {note}", style="red", markup=False)


def _machine(machine: dict[str, Any]) -> Table:
    table = Table(title="the machine", title_justify="left", show_header=False)
    for name, value in machine.items():
        text = value
        if isinstance(value, dict):
            text = ", ".join(f"{package} {version}" for package, version in value.items())
        table.add_row(name, str(text))
    return table


def _section(section: str, figures: list[Figure]) -> Table:
    """One row a case and load, one column a metric; medians with their spread."""
    table = Table(title=section, title_justify="left")
    units = {figure.key.metric: figure.unit for figure in figures}
    for name in ("case", "load"):
        table.add_column(name)
    for metric, unit in units.items():
        table.add_column(f"{metric}\n{unit}", justify="right")
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for figure in figures:
        row = rows.setdefault((figure.key.case, figure.key.load), {})
        row[figure.key.metric] = _number(figure.median, figure.rounds)
    for names, row in rows.items():
        table.add_row(*names, *(row.get(metric, "") for metric in units))
    return table


def _ratios(results: Results, shifts: dict[str, Shift]) -> Table:
    table = Table(title="ratios", title_justify="left")
    for name in ("ratio", "now", "better is", "last release", "verdict"):
        table.add_column(name, justify="right" if name in ("now", "last release") else "left")
    for name, ratio in results.ratios.items():
        shift = shifts.get(name)
        before, verdict = (f"{shift.before:.3g}", shift.verdict) if shift else ("", "")
        if shift and verdict != "same":
            verdict += f" (moved by more than {shift.threshold:.0%})"
        table.add_row(
            name,
            _number(ratio.median, ratio.rounds),
            "more" if ratio.more else "less",
            before,
            verdict,
            style=_COLOURS[shift.verdict] if shift else "",
        )
    return table


def _number(value: float, rounds: list[float]) -> str:
    text = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return f"{text} ±{spread(rounds):.0%}" if len(rounds) > 1 else text
