"""The names of keys."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsvc.redis.keys import Keys

users = st.integers(0, 2**63 - 1)


def slot(key: str) -> str:
    """What a Cluster hashes: the part in braces."""
    found = re.search(r"\{(.*?)\}", key)
    assert found
    return found[1]


def of_listener(keys: Keys, user: int) -> list[str]:
    return [keys.session(user), keys.bitmap(user), keys.oldest(user), keys.idempotency(user, 7)]


@given(users, st.integers(1, 16_384))
def test_one_listeners_keys_and_events_share_a_slot(user: int, partitions: int) -> None:
    keys = Keys("p", partitions)
    partition = user % partitions
    assert {slot(key) for key in [*of_listener(keys, user), keys.events(partition)]} == {
        str(partition)
    }


@given(users, users)
def test_listeners_never_share_a_key(one: int, other: int) -> None:
    keys = Keys()
    assert len({*of_listener(keys, one), *of_listener(keys, other)}) == (4 if one == other else 8)


def test_tables_share_a_slot() -> None:
    keys = Keys()
    assert {slot(key) for key in (keys.live, keys.versions, keys.table("a"))} == {"tables"}


@pytest.mark.parametrize("prefix", ["recsvc", "other"])
def test_everything_has_the_prefix(prefix: str) -> None:
    keys = Keys(prefix)
    shared = [keys.events(0), keys.live, keys.versions, keys.table("a"), keys.channel]
    assert all(key.startswith(f"{prefix}:") for key in [*of_listener(keys, 1), *shared])


def test_names_as_documented() -> None:
    assert Keys().session(17) == "recsvc:{0}:session:17"
    assert Keys("p", 4).idempotency(17, 4711) == "p:{1}:idem:17:4711"
