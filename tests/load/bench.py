"""How fast the service is, on this machine, against what it could be: `make bench`.

Starts everything itself, measures in turns, and ends with tables, a JSON file and a
picture. Takes less than ten minutes, whatever happens.
"""

import json
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, Never, get_args

import typer
from redis import Redis
from rich.console import Console

from recsvc.settings import Settings
from tests.load import plot, wrk
from tests.load.capacity import measure_batch, measure_memory, measure_start, measure_workers
from tests.load.errors import LoadError
from tests.load.figures import Results, compare
from tests.load.flat import measure_catalogue, measure_listened, measure_listeners
from tests.load.machine import Canary, Cores, describe, on
from tests.load.micro import measure_micro
from tests.load.render import show
from tests.load.rivals import measure_rivals
from tests.load.servers import valkey
from tests.load.stage import Pace, Stage

__all__ = ["app"]

_DOCS = Path(__file__).parents[2] / "docs"
_LIMIT = 570  # seconds, after which it ends with what it has

_QUICK = Pace(
    rounds=2,
    seconds=1,
    tracks=100_000,
    listeners=100_000,
    listened=(0, 10_000),
    spare=10.0,
    budget=150.0,
)
_RIVALS = ("closed", "open")
_SECTIONS: dict[str, Callable[[Stage], None]] = {
    "batch": measure_batch,
    "micro": measure_micro,
    "listened": measure_listened,
    "catalogue": measure_catalogue,
    "listeners": measure_listeners,
    "workers": measure_workers,
    "start": measure_start,
    "memory": measure_memory,
}
_ALL = (*_RIVALS, *_SECTIONS)
_BRIEF = (*_RIVALS, "batch", "listened", "micro")

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


class _TimeUpError(BaseException):
    """The limit is reached; nobody on the way out takes it for a fault of a measurement."""


@app.command()
def bench(
    *,
    only: Annotated[
        str, typer.Option(help=f"Sections to measure: {','.join(_ALL)}.", metavar="A,B")
    ] = "",
    policies: Annotated[
        str, typer.Option(help="Policies to measure; others are compared with the first.")
    ] = "",
    quick: Annotated[
        bool, typer.Option("--quick", help=f"Short and small, and just {', '.join(_BRIEF)}.")
    ] = False,
    output: Annotated[Path, typer.Option(help="Directory for bench.json and bench.png.")] = Path(
        "data/bench"
    ),
    save: Annotated[
        bool, typer.Option("--save", help="Write them to docs/: the result of this release.")
    ] = False,
    guard: Annotated[
        bool, typer.Option("--guard", help="Fail when a ratio is worse than that of docs/.")
    ] = False,
) -> None:
    """Measure how fast the service is, and compare with the last release."""
    if save and (only or quick):
        raise typer.BadParameter("--save is for a whole run")
    console = Console(width=None if sys.stdout.isatty() else 160)
    sections = _split(only, _BRIEF if quick else _ALL, _ALL)
    chosen = _split(policies, _default_policies(), _known_policies())
    pace, cores, results = _QUICK if quick else Pace(), Cores.split(), Results()
    with on(cores.others):
        machine = _measure(sections, chosen, pace, cores, results, console)
    before = _read(_DOCS / "bench.json")
    shifts = compare(results, before) if before else None
    show(results, machine, shifts, console)
    document = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine,
        "rounds": pace.rounds,
        "seconds": pace.seconds,
        **results.document(),
    }
    _write(_DOCS if save else output, document, results, console)
    slower = any(shift.verdict == "worse" for shift in shifts or [])
    if results.unmeasured or (guard and slower):
        raise typer.Exit(1)


def _measure(
    sections: list[str],
    policies: list[str],
    pace: Pace,
    cores: Cores,
    results: Results,
    console: Console,
) -> dict[str, Any]:
    """Measure the sections, as far as the time allows; return what the machine is."""
    with (
        tempfile.TemporaryDirectory(prefix="recsvc-bench-") as name,
        valkey(Path(name)) as url,
    ):
        machine = describe(cores) | {
            "valkey": _server_version(url),
            "load generator": "wrk" if wrk.which() else "our own; wrk is not installed",
        }
        stage = Stage(Path(name), url, cores, Canary(cores.all), pace, policies, results, console)
        try:
            with _within(_LIMIT):
                _play(stage, sections)
        except _TimeUpError:
            stage.give_up("the rest", f"the time of {_LIMIT} s was up")
        stage.warn_if_disturbed()
    return machine


def _play(stage: Stage, sections: list[str]) -> None:
    """Measure section after section; one that fails does not keep the next from its turn."""
    rivals = {section for section in _RIVALS if section in sections}
    turns = [(section, _SECTIONS[section]) for section in sections if section in _SECTIONS]
    if rivals:
        turns.insert(0, (", ".join(sorted(rivals)), lambda stage: measure_rivals(stage, rivals)))
    for names, measure in turns:
        if stage.spent:
            stage.give_up(names, "no time was left")
            continue
        try:
            measure(stage)
        except (LoadError, OSError) as error:
            stage.give_up(names, str(error))


@contextmanager
def _within(seconds: int) -> Iterator[None]:
    """Raise `_TimeUpError` in the block when it takes longer."""

    def ring(number: int, frame: FrameType | None) -> Never:
        raise _TimeUpError

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _known_policies() -> tuple[str, ...]:
    return get_args(Settings.model_fields["policy"].annotation)


def _default_policies() -> tuple[str, ...]:
    return tuple(name for name in ("ensemble", "session") if name in _known_policies())


def _split(given: str, default: tuple[str, ...], known: tuple[str, ...]) -> list[str]:
    names = given.split(",") if given else list(default)
    unknown = [name for name in names if name not in known]
    if unknown:
        raise typer.BadParameter(f"{', '.join(unknown)}: there are {', '.join(known)}")
    return names


def _server_version(url: str) -> str:
    with Redis.from_url(url) as store:
        found = store.info("server")
    return str(found.get("valkey_version") or found["redis_version"])


def _read(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    document: dict[str, Any] = json.loads(path.read_text())
    return document


def _write(directory: Path, document: dict[str, Any], results: Results, console: Console) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    written = [directory / "bench.json"]
    written[0].write_text(json.dumps(document, indent=1) + "\n")
    if plot.save(results, directory / "bench.png"):
        written.append(directory / "bench.png")
    console.print("written: " + ", ".join(map(str, written)), highlight=False)


if __name__ == "__main__":
    app()
