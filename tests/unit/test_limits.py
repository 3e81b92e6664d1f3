"""Room for requests, and which may be turned away unread."""

import asyncio

from recsvc.api.limits import Guard, Limits, Room
from recsvc.api.refusals import BUSY, BUSY_CLOSING, respond


def feel(
    room: Room, beats: int, late: float, in_progress: int, *, begun: int = 50, start: float = 0.01
) -> list[int]:
    """The limits after each of some beats, 10 ms apart."""
    found = []
    for beat in range(beats):
        room.feel(start + beat * 0.01, late, in_progress, begun, 0)
        found.append(room.limit)
    return found


def test_there_is_room_for_all_while_the_loop_is_in_time() -> None:
    assert set(feel(Room(500), 1000, 0.001, 500)) == {500}


def test_a_burst_is_let_in_whole() -> None:
    assert set(feel(Room(500), 8, 0.1, 500)) == {500}


def test_when_a_queue_stands_there_is_room_for_what_a_short_turn_does() -> None:
    assert feel(Room(500), 200, 0.1, 500, begun=50)[-1] == 75  # 5,000/s for 15 ms
    assert feel(Room(500), 200, 0.1, 500, begun=400)[-1] == 500


def test_requests_turned_away_are_work_too() -> None:
    room = Room(500)
    for beat in range(1, 200):
        room.feel(beat * 0.01, 0.1, 500, 20, 200)
    assert room.limit == 75


def test_there_is_always_some_room() -> None:
    assert feel(Room(500), 200, 0.1, 500, begun=0)[-1] == 16
    assert feel(Room(4), 200, 0.1, 4, begun=0)[-1] == 4


def test_it_grows_back_once_the_loop_is_in_time() -> None:
    room = Room(500)
    feel(room, 200, 0.1, 500, begun=10)
    limits = feel(room, 200, 0.001, 30, start=2.01)
    assert limits[-1] == 500
    assert limits[10] < 100, "but not at once"


def turned_away(room: Room, beats: int, turned: int, *, start: float) -> list[int]:
    """The limits after beats of a loop in time, while so many are turned away in each."""
    found = []
    for beat in range(beats):
        room.feel(start + beat * 0.01, 0.001, 150, 40, turned)
        found.append(room.limit)
    return found


def test_it_does_not_grow_while_others_are_turned_away() -> None:
    room = Room(500)
    feel(room, 200, 0.1, 500)
    limits = turned_away(room, 1000, 70, start=2.01)
    assert max(limits) - min(limits) < 10
    assert limits[-1] == 76  # (40 + 0.15 * 70) in 10 ms, for 15 ms


def test_nobody_turned_away_for_half_a_second_lets_it_grow() -> None:
    room = Room(500)
    feel(room, 200, 0.1, 500)
    turned_away(room, 10, 70, start=2.01)
    limits = turned_away(room, 120, 0, start=2.11)
    assert limits[45] < 150
    assert limits[-1] == 500


def test_a_late_loop_with_little_to_do_is_not_ours_to_mend() -> None:
    assert set(feel(Room(500), 1000, 0.1, 100)) == {500}


class FeltRoom(Room):
    """Notes how much it is told was in progress."""

    def __init__(self, most: int) -> None:
        super().__init__(most)
        self.felt: list[int] = []

    def feel(self, now: float, late: float, in_progress: int, begun: int, away: int) -> None:
        self.felt.append(in_progress)


async def test_it_is_how_much_was_in_progress_at_once_that_is_felt() -> None:
    guard = Guard(Limits(), lambda *_: None)
    guard.room = room = FeltRoom(500)
    running = asyncio.create_task(guard.run())
    for weight in [guard.let_in(25) for _ in range(7)]:  # all in one turn of the event loop
        guard.let_out(weight)
    await asyncio.sleep(0.05)
    running.cancel()
    assert room.felt[:2] == [7, 0]


def test_a_long_body_takes_room_for_itself_and_leaves_room_for_others() -> None:
    guard = Guard(Limits(requests_max=40), lambda *_: None)
    weights = [guard.let_in(25)]
    assert guard.begun == 1
    weights.append(guard.let_in(20 * 43))  # a batch of 20
    assert guard.begun == 1 + 7
    weights.append(guard.let_in(100_000))
    assert guard.begun == 8 + 21, "half of the room at the most"
    assert not guard.full()
    weights.append(guard.let_in(10 * 128))
    assert guard.full()
    for weight in weights:
        guard.let_out(weight)
    assert guard.in_progress == 0
    assert not guard.full()


def test_an_answer_is_whole_and_says_when_to_come_back() -> None:
    for answer, closes in ((BUSY, False), (BUSY_CLOSING, True)):
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
        assert b"\r\nretry-after: 1" in head
        assert b"\r\ncontent-length: %d" % len(body) in head
        assert (b"\r\nconnection: close" in head) == closes
    assert b'"status":431' in respond(431, "too much", close=True)
