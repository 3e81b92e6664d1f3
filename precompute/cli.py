"""The `precompute` command: all its commands, each loaded when it is called.

Torch takes a second to load and plots take another, which nobody is to wait for who reads the
help or makes a world.
"""

from importlib import import_module
from typing import Any, NamedTuple

import typer
from typer.core import TyperGroup
from typer.main import get_command

__all__ = ["COMMANDS", "app", "load"]


class Late(NamedTuple):
    """Where a command is, and the first line of its help."""

    module: str
    help: str


COMMANDS = {
    "train": Late("precompute.train_cli", "Train on a listening log and write an artifact."),
    "show": Late(
        "precompute.show_cli",
        "Show what an artifact is, and some of its lists with names, for a person to judge.",
    ),
    "publish": Late("recsvc.cli", "Check an artifact, put it into Redis, and make it live."),
    "world": Late("precompute.simulation.cli", "Make a world of tracks and listeners."),
    "listen": Late(
        "precompute.simulation.cli",
        "Write the log of a policy that runs in process: a cold log, or the oracle's.",
    ),
    "simulate": Late(
        "precompute.simulation.cli",
        "Send the listeners of a world to a service and say how long they stayed.",
    ),
    "demo-log": Late(
        "precompute.simulation.cli",
        "Make a small log and its catalogue, from which sensible neighbours can be trained.",
    ),
    "compare": Late(
        "precompute.simulation.trials_cli",
        "Compare the service's policies in process: one session a listener with each.",
    ),
    "experiment": Late(
        "precompute.simulation.trials_cli",
        "Run the whole loop: world, cold log, rounds, every policy over HTTP, report.",
    ),
    "report": Late("precompute.evaluation.cli", "Compare the treatments of an experiment."),
}


def load(name: str) -> Any:
    """Return a command with its options."""
    found = get_command(import_module(COMMANDS[name].module).app)
    return found.commands[name] if isinstance(found, TyperGroup) else found


class _LateGroup(TyperGroup):
    """Lists commands by what is known of them, and loads the one that is called."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        name, _, rest = super().resolve_command(ctx, args)
        return name, None if name is None else load(name), rest


app = typer.Typer(
    cls=_LateGroup,
    help="The offline half of recsvc: from a listening log to a table.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _listed() -> None:
    """Stand in the help for a command that is not loaded yet."""


for _name, _late in COMMANDS.items():
    app.command(_name, help=_late.help)(_listed)
