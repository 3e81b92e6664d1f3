"""A report as people read it: on a terminal, as Markdown, as a page of HTML."""

import html
import math

from rich.console import Console
from rich.table import Table
from rich.text import Text

from precompute.evaluation.report import Line, Report

__all__ = ["html_page", "markdown", "show"]

_HEADINGS = (
    "metric",
    "treatment",
    "statistic",
    "control",
    "treatment value",
    "effect",
    "95% interval",
    "p",
    "p (Holm)",
    "verdict",
)

_COLOURS = {"better": "green", "worse": "red", "not significant": "bright_black"}

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 75rem; color: #222 }
table { border-collapse: collapse } th, td { padding: .3rem .7rem; text-align: left }
th { border-bottom: 2px solid #999 } td { border-bottom: 1px solid #ddd }
.better { color: #11772d } .worse { color: #b3261e } .not-significant { color: #888 }
.alarm { background: #fbe4e2; padding: .7rem 1rem; font-weight: 600 }
img { max-width: 100% }
"""


def show(report: Report, console: Console) -> None:
    """Print the report: green is better, red is worse, grey is not significant."""
    table = Table(title=Text(_title(report), "table.title"), title_justify="left")
    for heading in _HEADINGS:
        table.add_column(heading, no_wrap=heading == "treatment")
    for line, cells in _rows(report):
        # A name is anybody's: in square brackets it must not be taken for markup.
        table.add_row(*map(Text, cells), style=_COLOURS[line.verdict])
    console.print(table)
    console.print(_split(report), style="dim", markup=False)
    for number, note in enumerate(report.notes):
        alarm = report.mismatched and number == 0
        console.print(note, style="bold white on red" if alarm else "", markup=False)


def markdown(report: Report, picture: str | None = None) -> str:
    """Return the report as Markdown; `picture` is where its plot lies."""
    lines = [f"# {_title(report)}", "", _split(report), ""]
    for number, note in enumerate(report.notes):
        bold = "**" if report.mismatched and number == 0 else ""
        lines += [f"> {bold}{note}{bold}", ""]
    if picture:
        lines += [f"![Effects with their intervals]({picture})", ""]
    lines.append("| " + " | ".join(_HEADINGS) + " |")
    lines.append("| " + " | ".join("---" for _ in _HEADINGS) + " |")
    for line, cells in _rows(report):
        mark = "**" if line.effect.significant else ""
        texts = [cell.replace("|", "\\|") for cell in cells]
        texts[-1] = f"{mark}{texts[-1]}{mark}"
        lines.append("| " + " | ".join(texts) + " |")
    return "\n".join(lines) + "\n"


def html_page(report: Report, picture: str | None = None) -> str:
    """Return the report as a page that needs nothing but its picture."""
    title = html.escape(_title(report))
    parts = [
        "<!doctype html>",
        f'<html lang="en"><head><meta charset="utf-8"><title>{title}</title>',
        f"<style>{_STYLE}</style></head><body><h1>{title}</h1>",
        f"<p>{html.escape(_split(report))}</p>",
    ]
    for number, note in enumerate(report.notes):
        alarm = ' class="alarm"' if report.mismatched and number == 0 else ""
        parts.append(f"<p{alarm}>{html.escape(note)}</p>")
    if picture:
        source = html.escape(picture, quote=True)
        parts.append(f'<p><img src="{source}" alt="Effects with their intervals"></p>')
    parts.append(f"<table><thead>{_html_row('th', _HEADINGS)}</thead><tbody>")
    for line, cells in _rows(report):
        parts.append(_html_row("td", cells, line.verdict.replace(" ", "-")))
    parts.append("</tbody></table></body></html>")
    return "\n".join(parts) + "\n"


def _html_row(tag: str, cells: tuple[str, ...], kind: str = "") -> str:
    inside = "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells)
    return f'<tr class="{kind}">{inside}</tr>' if kind else f"<tr>{inside}</tr>"


def _title(report: Report) -> str:
    return f"Experiment {report.experiment}: effects against {report.control}"


def _split(report: Report) -> str:
    counts = ", ".join(f"{name} {count:,}" for name, count in report.listeners.items())
    return f"Listeners: {counts}. Check of the split: p = {report.mismatch_p:.3f}."


def _rows(report: Report) -> list[tuple[Line, tuple[str, ...]]]:
    """Return each line with its cells as text, in the order of `_HEADINGS`."""
    return [(line, _cells(line)) for line in report.lines]


def _cells(line: Line) -> tuple[str, ...]:
    effect = line.effect
    return (
        line.metric,
        line.treatment,
        line.kind,
        f"{effect.control:.4g}",
        f"{effect.treatment:.4g}",
        "" if math.isnan(effect.percent) else f"{effect.percent:+.1f}%",
        "" if math.isnan(effect.percent) else f"{effect.low:+.1f}% to {effect.high:+.1f}%",
        _p(effect.p_value),
        _p(line.adjusted_p),
        line.verdict,
    )


def _p(value: float) -> str:
    if math.isnan(value):
        return ""
    return "<0.0001" if value < 0.0001 else f"{value:.4f}"
