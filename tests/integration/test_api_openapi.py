"""The description that callers generate their clients from."""

from typing import Any

import pytest

from recsvc.app import create_app
from recsvc.settings import Settings

DESCRIBED: dict[str, Any] = create_app(Settings()).openapi()
OPERATIONS = [
    (method, path, operation)
    for path, methods in DESCRIBED["paths"].items()
    for method, operation in methods.items()
]
NAMES = [f"{method} {path}" for method, path, _ in OPERATIONS]
each = pytest.mark.parametrize(("method", "path", "operation"), OPERATIONS, ids=NAMES)


def resolved(schema: dict[str, Any]) -> dict[str, Any]:
    reference = schema.get("$ref")
    if reference is None:
        return schema
    found: dict[str, Any] = DESCRIBED["components"]["schemas"][reference.rpartition("/")[2]]
    return found


def models() -> list[tuple[str, dict[str, Any]]]:
    schemas = DESCRIBED["components"]["schemas"]
    return [(name, schema) for name, schema in schemas.items() if "example" in schema]


def test_every_call_of_the_contract_is_described() -> None:
    assert {
        "post /next/{user}",
        "post /last/{user}",
        "post /next",
        "post /explain/{user}",
        "get /user/{user}",
        "delete /user/{user}",
        "get /track/{track}",
        "get /track/{track}/neighbours",
        "get /table",
        "post /table/reload",
        "post /table/rollback",
        "get /",
        "get /health/live",
        "get /health/ready",
        "get /metrics",
    } == set(NAMES)


@each
def test_each_says_what_it_is_for(method: str, path: str, operation: dict[str, Any]) -> None:
    assert operation["summary"]
    assert operation["description"]
    assert operation["tags"]


@each
def test_each_names_its_errors(method: str, path: str, operation: dict[str, Any]) -> None:
    responses = operation["responses"]
    expected = {"/user/{user}": {"503"}}.get(path, set())
    expected |= {"422"} if "{" in path else set()
    expected |= {"400", "413", "422"} if "requestBody" in operation else set()
    expected |= {"401", "403", "409", "503"} if path.startswith("/table/") else set()
    assert expected <= set(responses)
    for status, response in responses.items():
        if status[0] in "45" and not path.startswith("/health"):
            assert set(response["content"]) == {"application/problem+json"}


@each
def test_each_body_has_an_example_that_is_valid(
    method: str, path: str, operation: dict[str, Any]
) -> None:
    if path.startswith(("/next", "/last", "/explain")):
        content = operation["requestBody"]["content"]["application/json"]
        schema, example = content["schema"], content["example"]
        if schema["type"] == "array":
            schema, example = schema["items"], example[0]
        assert set(schema["required"]) == set(example)


@pytest.mark.parametrize(("name", "schema"), models(), ids=[name for name, _ in models()])
def test_examples_have_what_their_schema_requires(name: str, schema: dict[str, Any]) -> None:
    assert set(schema.get("required", [])) <= set(schema["example"])


@each
def test_each_answer_has_an_example(method: str, path: str, operation: dict[str, Any]) -> None:
    content = operation["responses"]["200"].get("content", {})
    schema = content.get("application/json", {}).get("schema", {})
    if not schema:  # /, /metrics
        return
    schema = schema.get("items", schema)
    options = [resolved(option) for option in schema.get("anyOf", [schema])]
    assert all("example" in option for option in options)
