"""The programs list all their commands, and load what is called and no more."""

import subprocess
import sys
from importlib import import_module
from typing import Any

import pytest
from typer.core import TyperGroup
from typer.main import get_command
from typer.testing import CliRunner

import precompute.cli
import recsvc.cli
from recsvc.late import load

PROGRAMS: dict[str, Any] = {"recsvc": recsvc.cli, "precompute": precompute.cli}
COMMANDS = [(program, name) for program, module in PROGRAMS.items() for name in module.COMMANDS]
OFFLINE = {"torch", "matplotlib", "scipy", "pyarrow"}


@pytest.mark.parametrize(("program", "name"), COMMANDS)
def test_the_list_says_what_the_commands_say(program: str, name: str) -> None:
    commands = PROGRAMS[program].COMMANDS
    assert load(commands, name).help.splitlines()[0] == commands[name].help


def test_all_commands_are_listed() -> None:
    listed = {name for _, name in COMMANDS}
    there = set[str]()
    for program, name in COMMANDS:
        found = get_command(import_module(PROGRAMS[program].COMMANDS[name].module).app)
        there |= {*found.commands} if isinstance(found, TyperGroup) else {str(found.name)}
    assert there == listed


def test_a_command_that_is_none_is_told_from_one_that_may_be_meant() -> None:
    result = CliRunner().invoke(precompute.cli.app, ["trian"])
    assert result.exit_code == 2
    assert "Did you mean 'train'" in result.stderr


@pytest.mark.parametrize(
    ("call", "unneeded"),
    [
        ("recsvc --help", {*OFFLINE, "numpy", "fastapi", "redis"}),
        ("recsvc serve --help", OFFLINE),
        ("recsvc status --help", {*OFFLINE, "fastapi", "uvicorn"}),
        ("precompute --help", {*OFFLINE, "numpy", "fastapi", "redis"}),
        ("precompute world --help", {*OFFLINE - {"pyarrow"}, "fastapi", "redis"}),
        ("precompute show --help", {*OFFLINE, "fastapi", "redis"}),
        ("precompute publish --help", {*OFFLINE, "fastapi"}),
        ("precompute report --help", {"torch", "fastapi", "redis"}),
        ("precompute train --help", {"matplotlib", "fastapi", "redis"}),
    ],
)
def test_nobody_waits_for_what_a_command_does_not_need(call: str, unneeded: set[str]) -> None:
    program, *arguments = call.split()
    code = (
        f"import sys; from {program}.cli import app\n"
        f"try: app({arguments!r})\n"
        "finally: print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "Usage" in done.stdout
    assert not unneeded & {*done.stderr.split()}
