"""What went wrong is one line, and who stops reading is no fault."""

import pytest
import typer

from recsvc.errors import GateError, RecsvcError
from recsvc.plainly import plainly


@pytest.mark.parametrize(
    "error", [RecsvcError("it is away"), GateError(["it is bad"]), OSError(28, "No space left")]
)
def test_it_is_said_in_one_line(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as ended, plainly():
        raise error
    assert ended.value.exit_code == 1
    said = capsys.readouterr().err
    assert said == f"error: {error}\n"


def test_who_stops_reading_is_left_to_typer(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(BrokenPipeError), plainly():
        raise BrokenPipeError(32, "Broken pipe")
    assert capsys.readouterr().err == ""


def test_a_bug_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError), plainly():
        raise ZeroDivisionError
