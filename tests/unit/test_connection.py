"""Which URLs can be used, and that a refusal tells nothing of one."""

import pytest

from recsvc.errors import RecsvcError
from recsvc.redis.connection import check_url


@pytest.mark.parametrize(
    "url",
    [
        "redis://h",
        "redis://:p%2Fw@h:1/0",
        "redis://u:p@ss@h/3?client_name=x",
        "redis://h?max_connections=5&timeout=3&protocol=2",
        "rediss://h:6380/0?ssl_cert_reqs=none",
        "unix:///a/b?db=3",
        "unix://u:p@/a/b",
        "redis+sentinel://h",
        "redis+sentinel://u:p@h:1,i:2/music/0",
        "redis+sentinel://[::1]:3,i/music",
        "redis+sentinel://u:p%40ss@h/music?db=3&socket_timeout=3&max_connections=5",
        "redis+cluster://u:p@h:1/0?socket_timeout=3",
    ],
)
def test_urls_that_can_be_used(url: str) -> None:
    check_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "secret",
        "http://secret",
        "redis://:secret/et@127.0.0.1:6379/0",
        "redis://:123/secret@127.0.0.1:6379/0",
        "redis://:123#secret@127.0.0.1:6379/0",
        "redis://:123?secret@127.0.0.1:6379/0",
        "redis://:123?secret=a@127.0.0.1:6379/0",
        "redis://h:secret",
        "redis://127.0.0.1:99999",
        "redis://[::1",
        "redis://h?secret=1",
        "redis://h?socket_timeout=secret",
        "rediss://h?ssl_cert_reqs=secret",
        "unix://",
        "redis+sentinel://:secret/et@127.0.0.1:26379/music/0",
        "redis+sentinel://:p@ss/w%secret#1@127.0.0.1:26379/music/0",
        "redis+sentinel://:p@ss/secret@127.0.0.1:26379",
        "redis+sentinel://h:secret/music/0",
        "redis+sentinel:///music/0",
        "redis+sentinel://h,,secret/music/0",
        "redis+sentinel://h:1/music/secret",
        "redis+sentinel://h:1/music/0?secret=1",
        "redis+cluster://",
        "redis+cluster://h:secret",
        "redis+cluster://h/3",
        "redis+cluster://h?secret=1",
    ],
)
def test_urls_that_cannot_be_used_are_refused_without_a_word_of_them(url: str) -> None:
    with pytest.raises(RecsvcError, match=r"^RECSVC_REDIS_URL cannot be read") as refused:
        check_url(url)
    assert "secret" not in str(refused.value)
    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__
