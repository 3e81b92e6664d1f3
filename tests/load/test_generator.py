"""The load generator: what it counts, and from when."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from tests.load.generator import Load, closed_loop, open_loop
from tests.load.traffic import Traffic, post

REQUEST = post("/next/1", b"{}")
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Other: 1\r\n\r\nhello"
STALL = 0.3


@contextmanager
def server(answers: dict[int, list[bytes | float]]) -> Iterator[tuple[str, int]]:
    """Answer request after request on each connection.

    `answers` says for some, by their number, what else to do: send pieces, and pause.
    """
    counter = iter(range(1_000_000))

    def talk(connection: socket.socket) -> None:
        with connection:
            while connection.recv(65_536):
                for step in answers.get(next(counter), [ANSWER]):
                    if isinstance(step, bytes):
                        connection.sendall(step)
                    else:
                        time.sleep(step)

    def accept(listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threads.append(threading.Thread(target=talk, args=(connection,)))
            threads[-1].start()

    threads: list[threading.Thread] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        accepting = threading.Thread(target=accept, args=(listener,))
        accepting.start()
        try:
            yield listener.getsockname()
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            accepting.join()
            for thread in threads:
                thread.join()


def test_a_stall_is_charged_to_all_requests_that_it_held_up() -> None:
    with server({50: [STALL, ANSWER]}) as address:
        outcome = open_loop(Load(address, [REQUEST], 1), rate=200, seconds=1.0)
    assert len(outcome.latencies) == 200
    assert outcome.failed == 0
    assert outcome.latencies.max() >= STALL
    # 60 should have begun during the stall; the first 40 of them waited for over 0.1 s.
    assert (outcome.latencies > 0.1).sum() >= 39
    assert outcome.percentile(99.9) > outcome.percentile(50)


def test_a_closed_loop_waits_for_each_answer() -> None:
    with server({50: [STALL, ANSWER]}) as address:
        outcome = closed_loop(Load(address, [REQUEST], 1), count=100)
    assert len(outcome.latencies) == 100
    assert np.partition(outcome.latencies, -1)[-1] >= STALL
    assert outcome.seconds >= STALL
    assert outcome.rate == pytest.approx(100 / outcome.seconds)


def test_answers_in_pieces_and_refusals() -> None:
    refusal = b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n"
    pieces: list[bytes | float] = [ANSWER[:20], 0.02, ANSWER[20:-3], 0.02, ANSWER[-3:]]
    with server({3: pieces, 5: [refusal]}) as address:
        outcome = closed_loop(Load(address, [REQUEST], 2), count=20)
    assert len(outcome.latencies) == 20
    assert outcome.failed == 1


def test_who_gets_no_answer_has_failed_and_waited() -> None:
    with server({3: []}) as address:
        outcome = open_loop(Load(address, [REQUEST], 1), rate=100, seconds=0.1)
    # The fourth was never answered, and held up the other six to the end.
    assert len(outcome.latencies) == 10
    assert outcome.failed == 7
    assert (outcome.latencies > 1.0).sum() == 7


def test_a_connection_that_is_closed_is_an_error() -> None:
    def close_at_once(listener: socket.socket) -> None:
        listener.accept()[0].close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        closing = threading.Thread(target=close_at_once, args=(listener,))
        closing.start()
        with pytest.raises(OSError, match=r"closed|reset|pipe"):
            closed_loop(Load(listener.getsockname(), [REQUEST], 1), count=2)
        closing.join()


def test_traffic_covers_what_it_says() -> None:
    traffic = Traffic(first=100, users=3, tracks=5)
    users = {request.split()[1] for request in traffic.requests(200)}
    assert users == {b"/next/100", b"/next/101", b"/next/102"}
    once = traffic.each_track_once(50)
    assert len(once) == 5
    assert {request.partition(b'"track":')[2][:1] for request in once} == set(b"0 1 2 3 4".split())
    assert traffic.requests(5, seed=1) == traffic.requests(5, seed=1) != traffic.requests(5, seed=2)
    assert traffic.batches(1, 3)[0].count(b'"user"') == 3
