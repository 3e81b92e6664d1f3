"""Reports: what they compare, what they shout about, how they look."""

import io
from pathlib import Path
from typing import Any

import mmh3
import numpy as np
import orjson
import pytest
from rich.console import Console
from rich.text import Text
from typer.testing import CliRunner

from precompute.evaluation import plot, render
from precompute.evaluation.cli import app
from precompute.evaluation.metrics import METRICS, ListenerMetrics
from precompute.evaluation.report import Report, ReportError, build

SIZE = 3000


def metrics(names: tuple[str, ...], shifts: tuple[float, ...], **more: Any) -> ListenerMetrics:
    """Listeners of so many treatments, whose metrics are shifted so much."""
    rng = np.random.default_rng(1)
    treatment = more.pop("treatment", np.arange(SIZE) % max(len(names), 1)).astype(np.int32)
    base = rng.exponential(1.0, len(treatment)) + 1.0
    values = {metric: base * (1 + np.array(shifts)[treatment]) for metric in METRICS}
    nothing = np.full(len(treatment), np.nan)
    return ListenerMetrics(
        users=np.arange(len(treatment)),
        treatment=treatment,
        treatments=names,
        values=values,
        before=more.pop("before", dict.fromkeys(METRICS, nothing)),
        contaminated=more.pop("contaminated", 0),
    )


def verdicts(report: Report, treatment: str, kind: str = "mean") -> dict[str, str]:
    return {
        line.metric: line.verdict
        for line in report.lines
        if line.treatment == treatment and line.kind == kind
    }


def test_every_treatment_meets_control_on_every_metric() -> None:
    report = build(metrics(("A", "C", "Z"), (0.3, 0.0, 0.0)), "x")
    assert report.control == "C"
    assert report.listeners == {"A": 1000, "C": 1000, "Z": 1000}
    expected = dict.fromkeys(METRICS, "better") | {"mean_request_latency": "worse"}
    assert verdicts(report, "A") == verdicts(report, "A", "median") == expected
    assert set(verdicts(report, "Z").values()) == {"not significant"}
    assert len(report.lines) == 2 * 2 * len(METRICS)
    line = next(line for line in report.lines if line.treatment == "A")
    assert line.effect.low < 30.0 < line.effect.high + 5.0
    assert line.adjusted_p >= line.effect.p_value


def test_control_can_be_chosen() -> None:
    report = build(metrics(("T1", "T2"), (0.0, -0.4)), "x", control="T2")
    assert verdicts(report, "T1")["mean_time_per_session"] == "better"
    assert build(metrics(("T1", "T2"), (0.0, 0.0)), "x").control == "T1"
    with pytest.raises(ReportError, match="no treatment 'T9'; there are T1, T2"):
        build(metrics(("T1", "T2"), (0.0, 0.0)), "x", control="T9")


def test_a_split_that_is_off_is_shouted_about() -> None:
    skewed = (np.arange(SIZE) % 10 < 6).astype(int)
    report = build(metrics(("A", "B"), (0.0, 0.0), treatment=skewed), "x")
    assert report.mismatched
    assert report.notes[0].startswith("SAMPLE RATIO MISMATCH")
    assert "**SAMPLE RATIO MISMATCH" in render.markdown(report)
    declared = {"A": 0.4, "B": 0.6}
    told = build(metrics(("A", "B"), (0.0, 0.0), treatment=skewed), "x", shares=declared)
    assert not told.mismatched
    assert told.notes == ()


def test_a_declared_treatment_that_nobody_had_is_a_split_that_is_off() -> None:
    declared = {"A": 1.0, "B": 1.0, "Z": 1.0}
    report = build(metrics(("A", "B"), (0.0, 0.0)), "x", shares=declared)
    assert report.listeners == {"A": 1500, "B": 1500, "Z": 0}
    assert report.mismatched
    assert report.notes[1:] == ("Left out, with fewer than two listeners: Z.",)
    assert "A 1,500, B 1,500, Z 0" in render.markdown(report)


@pytest.mark.parametrize(
    ("shares", "reason"),
    [
        ({"A": 1.0}, "missing: B"),
        ({"A": 1.0, "B": 0.0}, "not a positive number"),
        ({"A": 1.0, "B": -1.0}, "not a positive number"),
        ({"A": 1.0, "B": float("nan")}, "not a positive number"),
        ({"A": 1.0, "B": float("inf")}, "not a positive number"),
    ],
)
def test_shares_that_make_no_sense_are_told(shares: dict[str, float], reason: str) -> None:
    with pytest.raises(ReportError, match=reason):
        build(metrics(("A", "B"), (0.0, 0.0)), "x", shares=shares)


def test_many_treatments_come_with_a_note() -> None:
    report = build(metrics(("A", "B", "D"), (0.0, 0.0, 0.0), contaminated=3), "x")
    assert any("Holm" in note for note in report.notes)
    assert any("3 listeners had more than one treatment" in note for note in report.notes)
    assert not any("Holm" in note for note in build(metrics(("A", "B"), (0.0, 0.0)), "x").notes)


def test_a_pre_period_brings_cuped() -> None:
    plain = metrics(("A", "B"), (0.0, 0.02))
    before = {
        metric: plain.values[metric] + np.random.default_rng(3).normal(0, 0.1, SIZE)
        for metric in METRICS
    }
    report = build(metrics(("A", "B"), (0.0, 0.02), before=before), "x")
    width = {
        line.kind: line.effect.high - line.effect.low
        for line in report.lines
        if line.metric == "mean_time_per_session"
    }
    assert width["mean, CUPED"] < 0.3 * width["mean"]
    assert not any(line.kind == "mean, CUPED" for line in build(plain, "x").lines)


def test_what_nobody_logged_is_left_out() -> None:
    made = metrics(("A", "B"), (0.0, 0.0))
    values = dict(made.values) | {"mean_request_latency": np.full(SIZE, np.nan)}
    silent = ListenerMetrics(made.users, made.treatment, made.treatments, values, made.before, 0)
    assert "mean_request_latency" not in {line.metric for line in build(silent, "x").lines}


def test_a_treatment_without_a_figure_does_not_hide_the_others() -> None:
    made = metrics(("C", "T", "oracle"), (0.0, 0.5, 0.0))
    latency = np.where(made.treatment == 2, np.nan, made.values["mean_request_latency"])
    values = dict(made.values) | {"mean_request_latency": latency}
    partly = ListenerMetrics(made.users, made.treatment, made.treatments, values, made.before, 0)
    told = {x.treatment for x in build(partly, "x").lines if x.metric == "mean_request_latency"}
    assert told == {"T"}


def test_a_treatment_with_one_listener_is_left_out_with_a_note() -> None:
    treatment = np.append(np.arange(SIZE) % 2, 2)
    report = build(metrics(("C", "T", "Z"), (0.0, 0.5, 0.0), treatment=treatment), "x")
    assert {line.treatment for line in report.lines} == {"T"}
    assert report.listeners["Z"] == 1
    assert report.mismatched  # it is far from its third
    assert report.notes[1:] == ("Left out, with fewer than two listeners: Z.",)


@pytest.mark.parametrize(
    ("names", "treatment", "reason"),
    [
        ((), np.zeros(0), "no event belongs"),
        (("A",), np.zeros(5), "one treatment"),
        (("A", "B"), np.array([0, 0, 0, 1]), "fewer than two listeners in B"),
        (("A", "B", "C"), np.array([0, 0, 1, 1, 2]), "fewer than two listeners in C"),
    ],
)
def test_nothing_to_compare(names: tuple[str, ...], treatment: Any, reason: str) -> None:
    with pytest.raises(ReportError, match=reason):
        build(metrics(names, (0.0,) * max(len(names), 1), treatment=treatment), "x")


def test_colours_are_as_people_expect() -> None:
    report = build(metrics(("C", "up", "down", "same"), (0.0, 0.3, -0.3, 0.0)), "x")
    out = io.StringIO()
    render.show(report, Console(file=out, width=200, force_terminal=True, color_system="standard"))
    colour = {
        name: next(
            line
            for line in out.getvalue().splitlines()
            if {"mean_time_per_session", name, "mean"} <= set(Text.from_ansi(line).plain.split())
        )
        for name in ("up", "down", "same")
    }
    assert "\x1b[32m" in colour["up"]
    assert "\x1b[31m" in colour["down"]
    assert "\x1b[90m" in colour["same"]


def test_more_than_nothing_is_better_though_no_percentage_says_how_much(tmp_path: Path) -> None:
    report = build(metrics(("C", "T"), (-1.0, 0.0)), "x")
    expected = dict.fromkeys(METRICS, "better") | {"mean_request_latency": "worse"}
    assert verdicts(report, "T") == verdicts(report, "T", "median") == expected
    assert "nan" not in render.markdown(report)
    plot.save(report, tmp_path / "report.png")


def test_a_name_is_shown_as_it_is(tmp_path: Path) -> None:
    name = r"[red]$\no$[/nope]"
    report = build(metrics((name, "B"), (0.0, 0.3)), name)
    out = io.StringIO()
    render.show(report, Console(file=out, width=250))
    assert f"Experiment {name}: effects against {name}" in out.getvalue()
    assert f"Listeners: {name} 1,500" in out.getvalue()
    plot.save(build(metrics((name, "C"), (0.0, 0.3)), name), tmp_path / "report.png")


def test_html_is_safe_and_whole(tmp_path: Path) -> None:
    report = build(metrics(("C", "<b>"), (0.0, 0.3)), "<script>")
    page = render.html_page(report, "report.png")
    assert "<script>" not in page
    assert "<b>" not in page
    assert page.count('<tr class="better">') + page.count('<tr class="worse">') == 10
    plot.save(report, tmp_path / "report.png")
    assert (tmp_path / "report.png").read_bytes().startswith(b"\x89PNG")


def write_experiment(path: Path) -> None:
    """Events of 400 listeners, of whom half hear twice as much."""
    rng = np.random.default_rng(0)
    lines = []
    for user in range(400):
        side = mmh3.hash(str(user), mmh3.hash("x", signed=False), signed=False) % 2
        for session in range(2):
            for position in range(4):
                event = {
                    "timestamp": session * 86_400_000 + position * 1000,
                    "user": user,
                    "track": position,
                    "time": float(rng.uniform(0, 0.5) * (1 + side)),
                    "message": "last" if position == 3 else "next",
                    "recommendation": position + 1,
                    "experiments": {"x": ["control", "louder"][side]},
                    "latency": 0.001,
                }
                lines.append(orjson.dumps(event))
    path.write_bytes(b"\n".join(lines))


def test_the_command_prints_and_writes(tmp_path: Path) -> None:
    write_experiment(tmp_path / "events.jsonl")
    arguments = ["report", str(tmp_path / "events.jsonl"), "--experiment", "x"]
    output = tmp_path / "out"
    result = CliRunner().invoke(_app(), [*arguments, "--output", str(output)])
    assert result.exit_code == 0, result.output
    assert "louder" in result.output
    written = (output / "report.md").read_text()
    row = next(
        line
        for line in written.splitlines()
        if line.startswith("| mean_time_per_session | louder | mean |")
    )
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert float(cells[3]) == pytest.approx(1.0, abs=0.05)  # 4 tracks of a quarter each
    assert float(cells[5].rstrip("%")) == pytest.approx(100.0, abs=10.0)
    assert cells[-1] == "**better**"
    assert "![" in written
    assert {path.name for path in output.iterdir()} == {"report.md", "report.html", "report.png"}
    again = CliRunner().invoke(_app(), [*arguments, "--output", str(tmp_path / "again")])
    assert again.exit_code == 0
    assert (tmp_path / "again" / "report.md").read_text() == written


def test_the_command_says_what_is_wrong(tmp_path: Path) -> None:
    write_experiment(tmp_path / "events.jsonl")
    arguments = ["report", str(tmp_path / "events.jsonl"), "--experiment"]
    result = CliRunner().invoke(_app(), [*arguments, "y"])
    assert result.exit_code == 1
    assert "no event belongs to an experiment 'y'" in result.output
    result = CliRunner().invoke(_app(), [*arguments, "x", "--share", "louder"])
    assert result.exit_code == 2
    result = CliRunner().invoke(_app(), ["report", str(tmp_path / "no"), "--experiment", "x"])
    assert result.exit_code == 1
    assert "does not exist" in result.output


def test_an_output_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    write_experiment(tmp_path / "events.jsonl")
    arguments = ["report", str(tmp_path / "events.jsonl"), "--experiment", "x", "--output"]
    result = CliRunner().invoke(_app(), [*arguments, str(tmp_path / "events.jsonl")])
    assert result.exit_code == 1
    assert result.stderr.startswith("error: ")
    assert "events.jsonl" in result.stderr


def test_a_negative_seed_is_a_usage_error() -> None:
    arguments = ["report", "events.jsonl", "--experiment", "x", "--seed", "-1"]
    assert CliRunner().invoke(_app(), arguments).exit_code == 2


def _app() -> Any:
    """The sub-app as `precompute` mounts it: beside other commands."""
    import typer

    parent = typer.Typer()
    parent.add_typer(app)

    @parent.command()
    def other() -> None: ...

    return parent
