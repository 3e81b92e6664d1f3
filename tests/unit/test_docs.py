"""What the documents name exists: commands with their options, targets, files, links."""

import re
import shlex
from pathlib import Path

import pytest

import precompute.cli
import recsvc.cli
from recsvc.api import limits
from recsvc.late import load

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
COMMANDS = {"recsvc": recsvc.cli.COMMANDS, "precompute": precompute.cli.COMMANDS}
COMMAND = re.compile(
    r"(?:^ {4}(?:\.venv/bin/)?|`)((?:recsvc|precompute|make) [^`\n#]*)", re.MULTILINE
)


def commands() -> list[tuple[str, str]]:
    return [(page.name, found) for page in PAGES for found in COMMAND.findall(page.read_text())]


def test_there_are_commands_to_check() -> None:
    assert len(commands()) > 15


@pytest.mark.parametrize(("page", "command"), commands())
def test_commands_exist_with_their_options(page: str, command: str) -> None:
    program, name, *arguments = shlex.split(command)
    if program == "make":
        assert re.search(rf"^{name}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
        return
    for each in name.split("|"):
        assert each in COMMANDS[program]
        found = load(COMMANDS[program], each)
        known = {option for parameter in found.params for option in parameter.opts}
        assert {a for a in arguments if a.startswith("--")} <= known | {"--help"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
        assert (page.parent / link).exists(), link


def test_the_readme_is_short_and_its_map_is_right() -> None:
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 120
    places = re.findall(r"^ {4}((?:src|precompute|docs)/\S*)", text, re.MULTILINE)
    assert len(places) > 8
    for place in places:
        assert (ROOT / place).exists(), place


def test_settings_that_documents_name_exist() -> None:
    example = (ROOT / ".env.example").read_text()
    for page in PAGES:
        for setting in re.findall(r"\bRECSVC_[A-Z_]+", page.read_text()):
            assert f"\n{setting}=" in example, (page.name, setting)


def test_when_requests_queue_is_as_it_is_written() -> None:
    text = " ".join((ROOT / "docs/security.md").read_text().split())
    assert f"as it does in {limits._TURN_SECONDS * 1000:g} ms" in text
    assert "late for a tenth of a second on end" in text
    assert limits._STANDING_SECONDS == 0.1
    assert "nobody was turned away for half a second" in text
    assert limits._CALM_SECONDS == 0.5
