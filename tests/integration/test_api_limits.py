"""How much the service bears with: what is too slow, too large, too many, or not HTTP."""

import os
import signal
import socket
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx
import pytest

from recsvc.redis.embedded import embedded_server
from tests.processes import Served, recsvc, serve, write_artifact
from tests.support import small_table
from tests.wire import Reply, Wire, request

REPORT = b'{"track": 3, "time": 0.5}'
GOOD = request("/next/1", REPORT)
HEAD, BODY = GOOD[:-5], GOOD[-5:]


@pytest.fixture(scope="module")
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        write_artifact(directory / "artifact", small_table(40))
        recsvc(directory, "publish", "--force", directory / "artifact")
        yield directory


@pytest.fixture(scope="module")
def served(directory: Path) -> Iterator[Served]:
    with serve(directory, receive_timeout=1, body_max=4096, keep_alive=2) as served:
        yield served


def only(served: Served, data: bytes) -> Reply:
    """Send bytes; return the one problem that is answered before the connection is closed."""
    with Wire(served.url) as wire:
        wire.send(data)
        (reply,) = wire.replies()
    assert reply.is_problem()
    assert reply.headers["connection"] == "close"
    return reply


@pytest.mark.parametrize(
    "data",
    [
        b"hello\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"POST /next/1\r\n\r\n",
        b"POST /next/1 HTTP/9.9\r\n\r\n",
        b"POST  HTTP/1.1\r\n\r\n",
        b"CONNECT a.test:443 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET http:// HTTP/1.1\r\n\r\n",
        request("/next/1", REPORT, b"Host: another"),
        request("/next/1", REPORT, b"Content-Length: -1"),
        request("/next/1", REPORT, b"Content-Length: 1", b"Content-Length: 2"),
        request("/next/1", REPORT, b"Content-Length: " + b"9" * 5000),
        request("/next/1", b"", b"Content-Length: 25", b"Transfer-Encoding: chunked"),
        request("/next/1", b"zz\r\n", b"Transfer-Encoding: chunked"),
        request("/next/1", REPORT, b"A B: c"),
        request("/next/1", REPORT, b"a: \x00"),
        request(b"/next/\xff\xfe", REPORT),
    ],
)
def test_what_is_not_http_is_a_problem(served: Served, data: bytes) -> None:
    assert only(served, data).status == 400


@pytest.mark.parametrize(
    "headers",
    [[b"x: " + b"y" * (1 << 20)], [b"x-%d: y" % n for n in range(100_000)], [b"x: y"] * 300],
    ids=["a header of a megabyte", "100,000 headers", "300 headers"],
)
def test_too_much_of_a_head(served: Served, headers: list[bytes]) -> None:
    assert only(served, request("/next/1", REPORT, *headers)).status == 431


def test_a_head_that_grows_for_ever(served: Served) -> None:
    with Wire(served.url) as wire:
        wire.send(b"POST /next/1 HTTP/1.1\r\n")
        for _ in range(40):
            wire.send(b"x: " + b"y" * 4000 + b"\r\n")
        (reply,) = wire.replies()
    assert reply.status == 431


def test_what_comes_behind_the_last_chunk_may_not_grow_for_ever_either(served: Served) -> None:
    chunked = request("/next/1", b"0\r\nx: ", b"Transfer-Encoding: chunked")
    with Wire(served.url) as wire:
        wire.send(chunked + b"y" * 2_000_000)
        statuses = [reply.status for reply in wire.replies()]
    assert statuses == [431]


def test_what_comes_behind_the_last_chunk_changes_nothing(served: Served) -> None:
    body = b"19\r\n" + REPORT + b"\r\n0\r\nx-request-id: mine\r\n\r\n"
    with Wire(served.url) as wire:
        wire.send(request("/next/1", body, b"Transfer-Encoding: chunked") + GOOD)
        replies = [wire.reply(), wire.reply()]
    assert [reply.status for reply in replies if reply] == [200, 200]
    assert replies[0] is not None
    assert replies[0].json["request_id"] != "mine"


def test_a_path_of_any_length_that_a_head_may_have(served: Served) -> None:
    with Wire(served.url) as wire:
        wire.send(request("/next/" + "1" * 60_000, REPORT))
        reply = wire.reply()
        assert reply is not None
        assert (reply.status, reply.is_problem()) == (422, True)
        wire.send(request("/" + "%41" * 20_000, REPORT))
        reply = wire.reply()
        assert reply is not None
        assert (reply.status, reply.is_problem()) == (404, True)


@pytest.mark.parametrize("size", [4097, 30_000_000])
@pytest.mark.parametrize("how", [b"Content-Length: %d", b"Transfer-Encoding: chunked"])
def test_a_body_that_is_too_large(served: Served, size: int, how: bytes) -> None:
    if how.endswith(b"%d"):
        data = request("/next/1", b"x" * size, how % size)
    else:
        data = request("/next/1", b"%x\r\n" % size + b"x" * size + b"\r\n0\r\n\r\n", how)
    assert only(served, data).status == 413


def test_it_is_refused_before_it_is_sent(served: Served) -> None:
    with Wire(served.url) as wire:
        wire.send(request("/next/1", b"", b"Content-Length: 30000000", b"Expect: 100-continue"))
        (reply,) = wire.replies()
    assert reply.status == 413
    assert httpx.get(f"{served.url}/health/live").status_code == 200


@pytest.mark.parametrize("before", [b"", GOOD, GOOD * 3])
def test_a_body_is_asked_for_where_the_caller_waits_to_be(served: Served, before: bytes) -> None:
    waits = request("/next/1", b"", b"Content-Length: 25", b"Expect: 100-continue", b"x: %d" % 0)
    with Wire(served.url) as wire:
        wire.send(before + waits)
        statuses = [200] * before.count(GOOD) + [100]
        assert [reply.status for reply in (wire.reply() for _ in statuses) if reply] == statuses
        wire.send(REPORT)
        reply = wire.reply()
        assert reply is not None
        assert reply.status == 200


def test_a_caller_of_the_older_protocol_is_not_asked_for_a_body(served: Served) -> None:
    waits = request("/next/1", REPORT, b"Expect: 100-continue").replace(b"HTTP/1.1", b"HTTP/1.0")
    with Wire(served.url) as wire:
        wire.send(waits[:-25])
        time.sleep(0.1)
        wire.send(REPORT)
        assert [reply.status for reply in wire.replies()] == [200]


@pytest.mark.parametrize(
    "begun", [HEAD, GOOD[:30], b"", b"\r\n"], ids=["body", "head", "nothing", "an empty line"]
)
def test_what_does_not_arrive_is_given_up(served: Served, begun: bytes) -> None:
    with Wire(served.url) as wire:
        wire.send(begun)
        replies = list(wire.replies())
    assert [reply.status for reply in replies] == ([408] if begun.strip() else [])
    assert all(reply.is_problem() for reply in replies)


def test_an_empty_line_after_an_answer_does_not_keep_the_connection_open(served: Served) -> None:
    with Wire(served.url) as wire:
        wire.send(GOOD)
        assert wire.reply() is not None
        wire.send(b"\r\n")
        assert wire.closed_after() < 5


def test_requests_that_overlap_have_each_their_own_time(served: Served) -> None:
    with Wire(served.url) as wire:
        until = time.monotonic() + 2.5  # for each there is one second
        wire.send(HEAD)
        while time.monotonic() < until:
            time.sleep(0.1)
            wire.send(BODY + HEAD)
            reply = wire.reply()
            assert reply is not None
            assert reply.status == 200


def test_half_a_request_behind_a_whole_one_is_given_up_too(served: Served) -> None:
    with Wire(served.url) as wire:
        wire.send(GOOD + HEAD)
        statuses = [reply.status for reply in wire.replies()]
    assert statuses == [200, 408]


@pytest.mark.parametrize("data", [HEAD, GOOD[:30] + b"\r\nx: " + b"y" * 500])
def test_a_drop_at_a_time_does_not_help(served: Served, data: bytes) -> None:
    with Wire(served.url) as wire:
        wire.socket.settimeout(0.1)
        started = time.monotonic()
        while time.monotonic() < started + 10:
            wire.send(data[:1])
            data = data[1:]
            try:
                if not wire.socket.recv(1, socket.MSG_PEEK):
                    break
            except TimeoutError:
                continue
            except ConnectionResetError:
                break
            wire.socket.settimeout(10)
            assert [reply.status for reply in wire.replies()] == [408]
            break
        assert time.monotonic() - started < 5


def test_an_idle_connection_is_kept_for_a_while(served: Served) -> None:
    with Wire(served.url) as wire:
        for pause in (0, 1.3):  # longer than a request may take to arrive
            time.sleep(pause)
            wire.send(GOOD)
            reply = wire.reply()
            assert reply is not None
            assert reply.status == 200
        assert list(wire.replies()) == []


def test_requests_in_a_row_are_answered_in_order(served: Served) -> None:
    with Wire(served.url) as wire:
        wire.send(b"".join(request(f"/next/{user}", REPORT) for user in range(100, 150)))
        users = [reply.json["user"] for reply in (wire.reply() for _ in range(50)) if reply]
    assert users == list(range(100, 150))


@pytest.mark.parametrize(
    "after", [b"garbage\r\n\r\n", b"\x00", request("/next/2", b"", b"a: \x00")]
)
def test_garbage_after_a_request_never_takes_its_answer(served: Served, after: bytes) -> None:
    with Wire(served.url) as wire:
        wire.send(request("/next/70", REPORT) + request("/next/71", REPORT) + after)
        replies = list(wire.replies())
    assert [reply.json["user"] for reply in replies] == [70, 71]
    assert replies[-1].headers["connection"] == "close"


def test_a_caller_who_has_sent_all_still_gets_the_answer(served: Served) -> None:
    with Wire(served.url) as wire:
        wire.send(GOOD)
        wire.socket.shutdown(socket.SHUT_WR)
        assert [reply.status for reply in wire.replies()] == [200]


@pytest.mark.parametrize("wanted", [b"h2c", b"websocket"])
@pytest.mark.parametrize("cut", [0, 5])
def test_another_protocol_is_not_to_be_had(served: Served, wanted: bytes, cut: int) -> None:
    asked = request("/next/1", REPORT, b"Connection: Upgrade", b"Upgrade: " + wanted)
    with Wire(served.url) as wire:
        wire.send(asked[: len(asked) - cut])
        wire.send(asked[len(asked) - cut :] + GOOD)
        assert [reply.status for reply in (wire.reply(), wire.reply()) if reply] == [200, 200]


def test_many_wishes_for_another_protocol_at_once(served: Served) -> None:
    asked = request("/next/1", REPORT, b"Connection: Upgrade", b"Upgrade: h2c")
    with Wire(served.url) as wire:
        wire.send(asked * 1500)
        statuses = [reply.status for reply in (wire.reply() for _ in range(1500)) if reply]
    assert statuses == [200] * 1500


def test_who_wants_another_protocol_or_the_end_gets_the_end(served: Served) -> None:
    asked = request("/next/1", REPORT, b"Connection: Upgrade, close", b"Upgrade: h2c")
    with Wire(served.url) as wire:
        wire.send(asked)
        (reply,) = wire.replies()
    assert reply.headers["connection"] == "close"


@pytest.mark.parametrize(
    ("path", "status"),
    [("/next/1", b" 405 "), ("/health/live", b" 200 "), ("/openapi.json", b" 200 ")],
)
def test_no_body_is_sent_to_who_asks_for_the_head(served: Served, path: str, status: bytes) -> None:
    with Wire(served.url) as wire:
        wire.send(request(path, method=b"HEAD", body=b""))
        wire.send(GOOD)
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += wire.socket.recv(1)
        assert status in head
        reply = wire.reply()
        assert reply is not None
        assert reply.status == 200


def test_a_caller_who_does_not_read_is_let_go(served: Served) -> None:
    with Wire(served.url) as wire:
        wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        started = time.monotonic()
        ask = request("/openapi.json", method=b"GET") * 50
        with suppress(OSError):
            while time.monotonic() < started + 20:
                wire.socket.sendall(ask)
    assert time.monotonic() - started < 20
    assert httpx.get(f"{served.url}/health/live").status_code == 200


def test_too_many_at_once_are_turned_away_and_probes_are_not(directory: Path) -> None:
    with ExitStack() as stack:
        store = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        url = stack.enter_context(embedded_server(store))
        recsvc(directory, "publish", "--force", directory / "artifact", redis_url=url)
        served = stack.enter_context(
            serve(directory, redis_url=url, requests_max=8, deadline=5, redis_timeout=5)
        )
        pid = int((store / "valkey" / "valkey.pid").read_text())
        os.kill(pid, signal.SIGSTOP)
        stack.callback(os.kill, pid, signal.SIGCONT)
        pool = stack.enter_context(ThreadPoolExecutor(20))
        with httpx.Client(base_url=served.url, timeout=15) as api:
            calls = [pool.submit(api.post, f"/next/{user}", content=REPORT) for user in range(20)]
            while sum(call.done() for call in calls) < 12:
                time.sleep(0.01)
            assert api.get("/health/live").status_code == 200
            assert api.get("/metrics").status_code == 200
            batch = api.post("/next", json=[])
            assert batch.status_code == 503
            os.kill(pid, signal.SIGCONT)
            found = [call.result() for call in calls]
            assert api.post("/next/1", content=REPORT).status_code == 200
            until = time.monotonic() + 5
            while 'recsvc_turned_away_total{status="503"} 13.0' not in api.get("/metrics").text:
                assert time.monotonic() < until
    assert [response.status_code for response in found].count(200) == 8
    for response in [batch, *(r for r in found if r.status_code != 200)]:
        assert response.status_code == 503
        assert response.headers["content-type"] == "application/problem+json"
        assert response.headers["retry-after"] == "1"
        assert response.json()["status"] == 503


def test_who_is_here_when_it_stops_is_answered(directory: Path) -> None:
    with serve(directory) as served, Wire(served.url) as idle, Wire(served.url) as late:
        for wire in (idle, late):
            wire.send(GOOD)
            assert wire.reply() is not None
        served.process.send_signal(signal.SIGTERM)
        time.sleep(0.1)
        late.send(GOOD)
        (reply,) = late.replies()
        assert (reply.status, reply.headers["connection"]) == (200, "close")
        assert list(idle.replies()) == []
        assert served.process.wait(timeout=5) is not None
