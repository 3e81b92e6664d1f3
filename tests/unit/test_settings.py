"""Settings from the environment, and the example that lists them."""

import ast
import inspect
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from recsvc.errors import RecsvcError
from recsvc.settings import Settings, read_settings

ROOT = Path(__file__).parents[2]


def documented() -> dict[str, str]:
    """The fields of Settings with the sentence below each."""
    (made,) = ast.parse(inspect.getsource(Settings)).body
    assert isinstance(made, ast.ClassDef)
    found = {}
    for field, doc in zip(made.body, made.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(doc, ast.Expr):
            assert isinstance(field.target, ast.Name)
            assert isinstance(doc.value, ast.Constant)
            found[field.target.id] = str(doc.value.value)
    return found


def default(name: str) -> str:
    value = Settings.model_fields[name].default
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    return "" if value is None else str(value)


def test_the_example_is_equal_to_the_settings() -> None:
    sentences = documented()
    assert set(sentences) == set(Settings.model_fields)
    expected = "".join(
        f"\n# {sentence}\nRECSVC_{name.upper()}={default(name)}\n"
        for name, sentence in sentences.items()
    )
    text = (ROOT / ".env.example").read_text()
    assert text.partition("\n")[2] == expected


def test_the_example_is_valid(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text((ROOT / ".env.example").read_text())
    assert Settings() == Settings(_env_file=None)


def test_the_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECSVC_PORT", "9000")
    monkeypatch.setenv("RECSVC_REDIS_URL", "redis://:secret@host")
    settings = Settings()
    assert settings.port == 9000
    assert not settings.embedded
    assert "secret" not in repr(settings)


@pytest.mark.parametrize(
    ("name", "value"),
    [("PORT", "-1"), ("WORKERS", "0"), ("DEADLINE", "x"), ("EVENTS_MAX", str(1 << 63))],
)
def test_wrong_values_are_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"RECSVC_{name}", value)
    with pytest.raises(ValidationError):
        Settings()


def test_a_file_of_settings_that_is_no_text_is_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_bytes(b"RECSVC_ADMIN_KEY=secret\xff\n")
    with pytest.raises(RecsvcError, match=r"^the file \.env is not UTF-8$"):
        read_settings()


@pytest.mark.parametrize("below", ["", "data", "data/deeper"])
def test_data_where_a_file_is_names_the_setting(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, below: str
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("RECSVC_DATA_DIR", str(tmp_path / "file" / below))
    with pytest.raises(RecsvcError, match=r"^RECSVC_DATA_DIR: /.*file is no directory$"):
        read_settings()
