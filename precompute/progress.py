"""Steps of a long run: how far the one at hand is, and how long each took."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter

from rich import progress
from rich.console import Console

__all__ = ["Progress"]


class Progress:
    """Times named steps, and shows each as a bar when there is a console to show it on."""

    def __init__(self, console: Console | None = None) -> None:
        self.seconds: dict[str, float] = {}
        self._console = console

    @contextmanager
    def step(self, name: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
        """Run a step; the function it gives takes how much was done since its last call.

        Without a `total` the bar only shows that something happens. A step may end
        early, and is then complete.
        """
        started = perf_counter()
        if self._console is None:
            yield _ignore
        else:
            with self._bar(self._console) as bar:
                task = bar.add_task(name, total=total)
                yield lambda amount: bar.advance(task, amount)
                done = bar.tasks[0].completed or 1
                bar.update(task, total=done, completed=done)
        self.seconds[name] = self.seconds.get(name, 0.0) + perf_counter() - started

    @staticmethod
    def _bar(console: Console) -> progress.Progress:
        return progress.Progress(
            progress.TextColumn("{task.description:<24}"),
            progress.BarColumn(),
            progress.TaskProgressColumn(),
            progress.TimeElapsedColumn(),
            console=console,
        )


def _ignore(_amount: int) -> None:
    pass
