"""One time limit for many calls at once, at the price of one timer.

`asyncio.timeout` makes and cancels a timer for each call, which costs more than most of what
an answer takes. All calls here have the same time, so they run out in the order in which
they began, and only the first of them needs a timer.
"""

import asyncio
from collections import deque
from types import TracebackType

__all__ = ["Deadlines"]

_GRACE = 0.002  # seconds


class Deadlines:
    """Gives each call `within` seconds, as `asyncio.timeout` does: `with deadlines.enter(): ...`.

    A call that is not done by then is cancelled, and the `with` raises `TimeoutError`.
    """

    def __init__(self, within: float) -> None:
        self.within = within
        self._running: deque[_Deadline] = deque()  # in the order in which they run out
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def enter(self) -> "_Deadline":
        """Begin a call of the current task."""
        # Kept, for to ask which loop is running costs a call of the system.
        loop = self._loop = self._loop or asyncio.get_running_loop()
        task = asyncio.current_task(loop)
        assert task is not None  # noqa: S101
        began = loop.time()
        deadline = _Deadline(self._running, task, began, began + self.within)
        self._running.append(deadline)
        if self._timer is None:
            self._timer = loop.call_at(deadline.when, self._look)
        return deadline

    def _look(self) -> None:
        """See whether the first call is overdue; else look again when it would be."""
        self._timer = None
        if self._running:
            loop, when = asyncio.get_running_loop(), self._running[0].when
            if when > loop.time():
                self._timer = loop.call_at(when, self._look)
            else:
                # What it waits for may have come while something else kept this process busy.
                # So it is given the time of one more look at the sockets.
                self._timer = loop.call_later(_GRACE, self._expire)

    def _expire(self) -> None:
        now = asyncio.get_running_loop().time()
        while self._running and self._running[0].when <= now:
            self._running.popleft().expire()
        self._look()


class _Deadline:
    """The time of one call, on the event loop's clock; `task` is None once that has ended."""

    __slots__ = ("_cancelling", "_expired", "_running", "began", "task", "when")

    def __init__(
        self,
        running: "deque[_Deadline]",
        task: "asyncio.Task[object]",
        began: float,
        when: float,
    ) -> None:
        self._running = running
        self._cancelling = task.cancelling()
        self._expired = False
        self.task: asyncio.Task[object] | None = task
        self.began = began
        self.when = when

    def expire(self) -> None:
        """Cancel the call if it has not ended."""
        if self.task is not None:
            self._expired = True
            self.task.cancel()

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        task, self.task = self.task, None
        running = self._running
        while running and running[0].task is None:
            running.popleft()
        if not self._expired or task is None:
            return
        # Somebody else may have cancelled the task as well; that goes on.
        if task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error
