"""A recommender never sees the world: nothing that serves can reach what simulates."""

import ast
from pathlib import Path

import recsvc

FORBIDDEN = "precompute"


def imported(source: str) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


def test_the_service_imports_nothing_of_the_offline_half() -> None:
    folder = Path(recsvc.__file__).parent
    modules = list(folder.rglob("*.py"))
    assert len(modules) > 5
    for module in modules:
        found = {name.split(".")[0] for name in imported(module.read_text(encoding="utf-8"))}
        assert FORBIDDEN not in found, f"{module} imports {FORBIDDEN}"


def test_the_trainer_imports_nothing_of_the_simulation() -> None:
    import precompute

    folder = Path(precompute.__file__).parent
    trainers = [path for path in folder.glob("*.py") if path.name != "cli.py"]
    assert len(trainers) > 3
    for module in trainers:
        names = imported(module.read_text(encoding="utf-8"))
        assert not any(name.startswith("precompute.simulation") for name in names), module


def test_this_test_can_see_an_import() -> None:
    assert imported("import a.b\nfrom c.d import e") == {"a.b", "c.d"}
