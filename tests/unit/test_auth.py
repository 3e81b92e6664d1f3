"""Keys: how they are declared, what they are good for, what a failure gives away."""

from pathlib import Path

import pytest

from recsvc.api.auth import Keyring, Role, make_key, parse
from recsvc.api.problems import ProblemError
from recsvc.errors import AccessError
from recsvc.settings import Settings

READ, READ_ENTRY = make_key(Role.READ, "desk")
PLAY, PLAY_ENTRY = make_key(Role.PLAY, "phone")
ADMIN, ADMIN_ENTRY = make_key(Role.ADMIN, "ops")
ALL = f"{READ_ENTRY},{PLAY_ENTRY}\n{ADMIN_ENTRY}  # the night shift"


def given(key: str) -> list[tuple[bytes, bytes]]:
    return [(b"host", b"x"), (b"x-api-key", key.encode())]


def status(keyring: Keyring, headers: list[tuple[bytes, bytes]], role: Role | None) -> int:
    try:
        keyring.check(headers, role)
    except ProblemError as error:
        return error.fault.status
    return 200


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (READ, {Role.READ: 200, Role.PLAY: 403, Role.ADMIN: 403, None: 200}),
        (PLAY, {Role.READ: 403, Role.PLAY: 200, Role.ADMIN: 403, None: 200}),
        (ADMIN, {Role.READ: 200, Role.PLAY: 200, Role.ADMIN: 200, None: 200}),
        ("rk_unknown", dict.fromkeys([*Role, None], 401)),
        ("", dict.fromkeys([*Role, None], 401)),
    ],
    ids=["read", "play", "admin", "unknown", "empty"],
)
def test_a_key_is_good_for_its_role(key: str, expected: dict[Role | None, int]) -> None:
    keyring = Keyring(ALL)
    assert {role: status(keyring, given(key), role) for role in expected} == expected


def test_without_a_key_nothing_is_let_in() -> None:
    keyring = Keyring(ALL)
    assert {status(keyring, [], role) for role in (*Role, None)} == {401}


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        (b"authorization", f"Bearer {PLAY}", 200),
        (b"authorization", f"bearer   {PLAY} ", 200),
        (b"authorization", f"Basic {PLAY}", 401),
        (b"authorization", PLAY, 401),
        (b"x-api-key", f" {PLAY} ", 200),
        (b"x-api-key", PLAY.upper(), 401),
        (b"x-api-key", PLAY[:-1], 401),
        (b"x-api-key", PLAY_ENTRY, 401),
        (b"x-api-key", PLAY_ENTRY.rpartition(":")[2], 401),
    ],
)
def test_how_a_key_is_given(name: bytes, value: str, expected: int) -> None:
    assert status(Keyring(ALL), [(name, value.encode())], Role.PLAY) == expected


def test_any_bytes_may_be_given() -> None:
    assert status(Keyring(ALL), [(b"x-api-key", bytes(range(256)))], Role.PLAY) == 401


def test_without_keys_all_but_the_admin_calls_are_open() -> None:
    keyring = Keyring()
    assert [status(keyring, [], role) for role in (None, *Role)] == [200, 200, 200, 403]


def test_an_admin_key_alone_leaves_the_rest_open() -> None:
    keyring = Keyring(admin_key="secret")
    assert [status(keyring, [], role) for role in (None, *Role)] == [200, 200, 200, 401]
    assert status(keyring, given("secret"), Role.ADMIN) == 200
    both = Keyring(PLAY_ENTRY, "secret")
    assert status(both, [], Role.PLAY) == 401
    assert {status(both, given("secret"), role) for role in Role} == {200}


@pytest.mark.parametrize(
    "entry",
    ["play:phone", f"play:phone:{'0' * 63}", f"root:x:{'0' * 64}", f"play::{'0' * 64}", PLAY + ":"],
)
def test_a_wrong_entry_is_named_and_not_repeated(entry: str) -> None:
    with pytest.raises(AccessError, match="entry 2 of RECSVC_API_KEYS") as caught:
        Keyring(f"{READ_ENTRY} {entry}")
    assert entry not in str(caught.value)


def test_a_key_in_place_of_entries_is_not_repeated() -> None:
    with pytest.raises(AccessError) as caught:
        Keyring(PLAY)
    assert PLAY not in str(caught.value)


def test_no_key_is_in_what_is_printed() -> None:
    assert PLAY not in repr(Keyring(ALL, "admin-secret").entries)
    assert "admin-secret" not in repr(vars(Keyring(ALL, "admin-secret")))


def test_a_name_that_no_entry_can_have_is_refused() -> None:
    for name in ("a b", "", "a:b", "ä", "x" * 65, "x\n"):
        with pytest.raises(AccessError, match="a name is 1 to 64 letters, digits"):
            make_key(Role.PLAY, name)
    assert parse(PLAY_ENTRY)[0].name == "phone"


def test_a_file_of_keys_is_read_again_when_it_changes(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(PLAY_ENTRY)
    keyring = Keyring(str(file), look_every=0)
    new, entry = make_key(Role.PLAY, "phone-2")
    assert [status(keyring, given(k), Role.PLAY) for k in (PLAY, new)] == [200, 401]
    file.write_text(f"{PLAY_ENTRY}\n{entry}\n")
    assert [status(keyring, given(k), Role.PLAY) for k in (PLAY, new)] == [200, 200]
    file.write_text(entry)
    assert [status(keyring, given(k), Role.PLAY) for k in (PLAY, new)] == [401, 200]
    file.write_text("nonsense")
    assert status(keyring, given(new), Role.PLAY) == 200, "a bad file changes nothing"
    file.unlink()
    assert status(keyring, given(new), Role.PLAY) == 200, "nor does one that is gone"
    replacement = tmp_path / "new"
    replacement.write_text("# nobody\n")
    replacement.replace(file)
    assert status(keyring, given(new), Role.PLAY) == 401, "an empty one lets nobody in"


def test_no_setting_that_is_secret_is_printed() -> None:
    secrets = {"admin_key": "secret-1", "api_keys": "secret-2", "redis_url": "redis://u:secret-3@h"}
    settings = Settings.model_validate(secrets)
    assert "secret-" not in repr(settings) + str(settings) + repr(settings.model_dump())


def test_a_file_that_is_damaged_at_the_start_lets_in_who_was_let_in_before(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(PLAY_ENTRY)
    before = Keyring(str(file), "secret", look_every=0)
    file.write_text(f"{PLAY_ENTRY}\n{READ_ENTRY}")
    known = before.current()
    file.write_text("damaged")
    assert before.current() == known
    with pytest.raises(AccessError):
        Keyring(str(file))
    keyring = Keyring(str(file), look_every=0, before=known)
    assert [status(keyring, given(k), None) for k in (PLAY, READ, "secret")] == [200, 200, 401]
    file.write_text(ADMIN_ENTRY)
    assert [status(keyring, given(k), None) for k in (PLAY, READ, ADMIN)] == [401, 401, 200]
