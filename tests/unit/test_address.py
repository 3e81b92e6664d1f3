"""Which store a URL leads to."""

import pytest

from recsvc.redis.address import whereabouts


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("redis://h", "rediss://u:p%2F@H:6379/0?ssl_cert_reqs=none"),
        ("redis://:old@h/3", "redis://:new@h?db=3"),
        ("redis://", "redis://localhost:6379/"),
        ("unix:///a/b", "unix://u:p@/a/b?db=0"),
        ("redis+sentinel://h,i:2", "redis+sentinel://u:p@i:2,h:26379/mymaster/0?socket_timeout=3"),
        ("redis+sentinel://[::1]/m/3", "redis+sentinel://:p@[::1]:26379/m?db=3"),
        ("redis+cluster://h", "redis+cluster://u:p@h:6379/0"),
    ],
)
def test_the_same_store(one: str, other: str) -> None:
    assert whereabouts(one) == whereabouts(other)


def test_different_stores() -> None:
    urls = [
        "redis://h",
        "redis://h/1",
        "redis://h:1",
        "redis://i",
        "unix:///a/b",
        "unix:///a/b?db=1",
        "unix:///a/c",
        "redis+sentinel://h",
        "redis+sentinel://h/m",
        "redis+sentinel://h/m/1",
        "redis+sentinel://h,i/m",
        "redis+cluster://h",
    ]
    assert len({whereabouts(url) for url in urls}) == len(urls)
