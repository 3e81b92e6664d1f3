"""Programs of many commands, each loaded when it is called.

Frameworks take their time to load, and nobody is to wait for one who reads the help, or calls
what does not need it.
"""

from collections.abc import Mapping
from importlib import import_module
from typing import Any, NamedTuple

import typer
from typer.core import TyperGroup
from typer.main import get_command

__all__ = ["Late", "load", "program"]


class Late(NamedTuple):
    """A command: the module whose `app` has it, and the first line of its help."""

    module: str
    help: str


def program(help_text: str, commands: Mapping[str, Late]) -> typer.Typer:
    """Make a program; it lists commands by what is known of them, and loads the one called."""

    class Group(TyperGroup):
        def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
            name, _, rest = super().resolve_command(ctx, args)
            return name, None if name is None else load(commands, name), rest

    app = typer.Typer(
        cls=Group,
        help=help_text,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    for name, late in commands.items():
        app.command(name, help=late.help)(_listed)
    return app


def load(commands: Mapping[str, Late], name: str) -> Any:
    """Return a command with its options."""
    found = get_command(import_module(commands[name].module).app)
    return found.commands[name] if isinstance(found, TyperGroup) else found


def _listed() -> None:
    """Stand in the list for a command that is not loaded yet."""
