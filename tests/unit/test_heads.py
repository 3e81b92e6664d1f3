"""Which requests may go without the parser, and what is known of their headers."""

from typing import Any

import httptools
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsvc.heads import Familiar, Received, is_simple
from tests.wire import request

REPORT = b'{"track": 3, "time": 0.5}'


@pytest.mark.parametrize(
    "data",
    [
        request("/next/1", REPORT),
        request("/next/1", REPORT, b"Connection: keep-alive", b"Accept: */*"),
        request("/next", b"[" + REPORT + b"]").replace(b"Content-Length", b"cOnTent-leNgth"),
        request("/next/2", REPORT * 2),
        request("/next/1", REPORT, b"x: " + b"y" * 900),
    ],
)
def test_simple_requests(data: bytes) -> None:
    assert is_simple(data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"POST /next/1 HTTP/1.1\r\n\r\n",
        request("/health/ready", method=b"GET"),
        request("/next/1", REPORT)[:-1],
        request("/next/1", REPORT) + b"P",
        request("/next/1", REPORT) * 2,
        request("/next/1", REPORT, b"Content-Length: 99999999"),
        request("/next/1", REPORT, b"Content-Length: 2_5"),
        request("/next/1", REPORT, b"Content-Length: +25"),
        request("/next/1", REPORT, b"Content-Length: 25", b"Transfer-Encoding: chunked"),
        request("/next/1", REPORT, b"Transfer-Encoding: chunked"),
        request("/next/1", REPORT, b"Connection: close"),
        request("/next/1", REPORT, b"Connection: Upgrade"),
        request("/next/1", REPORT, b"Expect: 100-continue"),
        request("/next/1", REPORT).replace(b"HTTP/1.1", b"HTTP/1.0"),
        request("/next/1", REPORT).replace(b" HTTP/1.1", b""),
        request("/next/1", REPORT).replace(b"POST", b"post"),
        request("/next/1", REPORT, b"Content-Length: 25", b"Content-Length: 25"),
        request("/next/1", REPORT, b"x: " + b"y" * 1024),
        request("/next/1", REPORT)[:-25],
        b"\r\n\r\n" + REPORT,
    ],
)
def test_what_is_not_simple_is_parsed(data: bytes) -> None:
    assert not is_simple(data)


class Parser:
    """What httptools makes of some bytes."""

    def __init__(self, data: bytes) -> None:
        self.url = self.body = b""
        self.headers: Received = []
        self.ended = 0
        self.parser: Any = httptools.HttpRequestParser(self)
        self.parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.ended += 1


def learnt(data: bytes) -> Familiar:
    parsed, familiar = Parser(data), Familiar()
    familiar.learn(data, parsed.headers, parsed.body)
    return familiar


def test_the_same_headers_are_read_again_with_another_path_and_body() -> None:
    extra = (b"X-Api-Key: abc", b"Accept:*/*")
    familiar = learnt(request("/next/1", REPORT, *extra))
    found = familiar.read(request("/next/99", b'{"track": 4, "time": 0.7}', *extra))
    assert found is not None
    path, headers, body = found
    assert (path, body) == (b"/next/99", b'{"track": 4, "time": 0.7}')
    assert (b"x-api-key", b"abc") in headers
    assert (b"accept", b"*/*") in headers


@pytest.mark.parametrize(
    "data",
    [
        request("/next/1", REPORT, b"x: y"),  # other headers
        request("/next/1", REPORT + b" "),
        request("/next/1", REPORT) + b" ",
        request("/next/1", REPORT)[:-1],
        request("/next/1", REPORT) * 2,
        request("/next/1", REPORT, method=b"GET"),
        request("/next/1", REPORT, method=b"XPOST"),
        request("/next/1", REPORT).replace(b"HTTP/1.1", b"HTTP/1.0"),
        request("/next/1", REPORT).replace(b" HTTP/1.1", b""),
        request("/next/1?x=1", REPORT),
        request("/next/%31", REPORT),
        request("/next/1#x", REPORT),
        request("/next/\u0661", REPORT),
        request("/next/1 HTTP/1.1", REPORT),
        request("/next/ 1", REPORT),
        request("http://host/next/1", REPORT),
        request("*", REPORT),
        b"",
        b"\r\n\r\n",
        b"POST /next/1 HTTP/1.1\r\n",
    ],
)
def test_all_else_is_left_to_the_parser(data: bytes) -> None:
    assert learnt(request("/next/1", REPORT)).read(data) is None


@pytest.mark.parametrize(
    "extra",
    [
        (b"Connection: close",),
        (b"Connection: keep-alive", b"Connection: close"),
        (b"Expect: 100-continue",),
        (b"x: " + b"y" * 1100,),
    ],
)
def test_headers_with_more_to_them_are_not_learnt(extra: tuple[bytes, ...]) -> None:
    data = request("/next/1", REPORT, *extra)
    assert learnt(data).read(data) is None


def test_what_the_parser_saw_otherwise_is_not_learnt() -> None:
    data, familiar = request("/next/1", REPORT), Familiar()
    familiar.learn(data, [], REPORT[1:])
    assert familiar.read(data) is None


def test_no_more_is_kept_than_there_is_room_for() -> None:
    familiar = Familiar()
    data = [request("/next/1", REPORT, b"x: %d" % number) for number in range(2000)]
    for one in data[:60]:
        familiar.learn(one, [], REPORT)
    assert all(familiar.read(one) for one in data[:60])
    for one in data:
        familiar.learn(one, [], REPORT)
        familiar.read(data[0])  # somebody comes again, so it goes on learning
    assert 0 < sum(familiar.read(one) is not None for one in data) <= 256


def test_where_nobody_comes_again_little_is_learnt() -> None:
    familiar = Familiar()
    data = [request("/next/1", REPORT, b"x-request-id: %d" % number) for number in range(640)]
    for one in data:
        assert familiar.read(one) is None
        familiar.learn(one, [], REPORT)
    assert sum(familiar.read(one) is not None for one in data) == 64 + 9


TEXT = st.text("abcXYZ019-_ :\t", max_size=8).map(str.encode)
NAMES = st.sampled_from([b"X-A", b"accept", b"Connection", b"Content-Length", b"Host", b"expect"])
LINES = st.lists(st.tuples(NAMES, st.sampled_from([b": ", b":", b" : "]), TEXT), max_size=4)


@settings(max_examples=500, deadline=None)
@given(
    lines=LINES,
    path=st.text("/abcn019%?# .", max_size=10).map(lambda text: f"/{text}"),
    body=st.binary(max_size=30),
    cut=st.integers(-2, 2),
)
def test_what_is_read_is_what_the_parser_reads(
    lines: list[tuple[bytes, bytes, bytes]], path: str, body: bytes, cut: int
) -> None:
    """Whatever headers were learnt, and whatever comes with them."""
    extra = [b"".join(line) for line in lines]
    first = request("/next/1", b"x" * len(body), *extra)
    try:
        parsed = Parser(first)
    except httptools.HttpParserError:
        return
    familiar = Familiar()
    familiar.learn(first, parsed.headers, parsed.body)
    second = request(path, body, *extra)
    second = second[:cut] if cut < 0 else second + b"P" * cut
    found = familiar.read(second)
    if found is not None:
        again = Parser(second)
        assert (again.url, again.headers, again.body, again.ended) == (*found, 1)
