"""What the command accepts."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.load.bench import app
from tests.load.errors import LoadError
from tests.load.machine import Cores
from tests.load.servers import service
from tests.load.store import Store


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--only", "closed,nothing"], "nothing: there are closed"),
        (["--policies", "best"], "best: there are ensemble"),
        (["--save", "--quick"], "a whole run"),
    ],
)
def test_what_there_is_not_is_refused(arguments: list[str], reason: str) -> None:
    refused = CliRunner().invoke(app, arguments)
    assert refused.exit_code == 2
    assert reason in refused.stderr


def test_a_server_that_does_not_come_up_is_an_error(tmp_path: Path) -> None:
    store = Store("nonsense://", "bench")
    with (
        pytest.raises(LoadError, match=r"REDIS_URL|nonsense"),
        service(Cores.split().all, tmp_path, store),
    ):
        pass


def test_the_committed_result_can_be_compared_with() -> None:
    path = Path(__file__).parents[2] / "docs" / "bench.json"
    document = json.loads(path.read_text())
    assert document["machine"]["cores"] >= 1
    assert {"name", "median", "spread", "better"} <= document["ratios"][0].keys()
