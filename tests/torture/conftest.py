"""What comes of the faults, as a table at the end of the run."""

from collections.abc import Callable

import pytest

LINES = pytest.StashKey[list[tuple[str, str, str]]]()

Report = Callable[[str, str, str], None]


@pytest.fixture
def report(request: pytest.FixtureRequest) -> Report:
    """Note a line of the table: a promise, what was done to it, and what came of it."""
    lines = request.config.stash.setdefault(LINES, [])

    def note(promise: str, provoked: str, result: str) -> None:
        lines.append((promise, provoked, result))

    return note


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table."""
    lines = terminalreporter.config.stash.get(LINES, [])
    if lines:
        terminalreporter.section("torture")
        terminalreporter.write_line("| promise | provoked | result |")
        terminalreporter.write_line("| --- | --- | --- |")
        for line in lines:
            terminalreporter.write_line(f"| {' | '.join(line)} |")
