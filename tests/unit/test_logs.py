"""Logs: one JSON object a line, whatever is in a message."""

import json
import logging
from collections.abc import Iterator

import pytest

from recsvc import logs


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Give the root logger back as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers.clear()
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.getLogger("uvicorn.access").disabled = False


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, str]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


@pytest.mark.parametrize("mark", ["\n", "\r\n", "\r", "\u2028", "\u0085", '"}\n{"level": "error"'])
def test_a_message_cannot_forge_a_line(capsys: pytest.CaptureFixture[str], mark: str) -> None:
    logs.configure("info")
    logging.getLogger("x").info("listener %s", f"a{mark}b")
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "\r" not in err
    assert json.loads(err)["message"] == f"listener a{mark}b"


def test_a_line_has_what_is_needed_to_find_it(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("warning")
    logging.getLogger("recsvc.app").info("not this")
    logging.getLogger("recsvc.app").warning("this")
    (line,) = lines(capsys)
    assert (line["level"], line["logger"], line["message"]) == ("warning", "recsvc.app", "this")
    assert line["at"].endswith("+00:00")


def test_an_exception_stays_on_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info")
    try:
        raise ValueError("two\nlines")
    except ValueError:
        logging.getLogger("x").exception("failed")
    (line,) = lines(capsys)
    assert "ValueError: two\nlines" in line["exception"]


def test_a_lone_surrogate_does_not_lose_the_line(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info")
    logging.getLogger("x").info("bad \ud800 text")
    (line,) = lines(capsys)
    assert line["message"].startswith("bad ")
