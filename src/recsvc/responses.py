"""Responses as uvicorn writes them, but a whole one in one piece."""

from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

__all__ = ["WholeCycle"]

_NO_BODY = (204, 304)
_CLOSE = (b"connection", b"close")


class WholeCycle(RequestResponseCycle):
    """One request and its response.

    uvicorn writes the head and the body of a response one after the other, each by a call
    of the system: as much work again as all the rest of writing. Here the head waits for
    the body; where that is not all of it, everything is as it was.
    """

    _head: Any = None

    async def send(self, message: Any) -> None:
        """Take a part of the response; write it once it is whole."""
        head = self._head
        if head is None:
            if self.response_started or message["type"] != "http.response.start":
                await super().send(message)
            else:
                self._head = message
            return
        self._head = None
        if not self._write_whole(head, message):
            await super().send(head)
            await super().send(message)

    def _write_whole(self, head: Any, message: Any) -> bool:
        """Write a response unless there is anything unusual about it."""
        status, body = head["status"], message.get("body", b"")
        if (
            message.get("more_body")
            or self.disconnected
            or self.flow.write_paused
            or status in _NO_BODY
            or self.scope["method"] == "HEAD"
        ):
            return False
        length, parts = None, [STATUS_LINE[status]]
        headers = [*self.default_headers, *head["headers"]]
        if not self.keep_alive:
            headers.append(_CLOSE)
        for name, value in headers:
            if name == b"content-length":
                length = int(value)
            elif name == b"transfer-encoding" or (name == b"connection" and self.keep_alive):
                return False
            if b"\n" in value or b"\r" in value or b"\0" in value:
                return False
            parts += (name, b": ", value, b"\r\n")
        if length != len(body):
            return False
        self.transport.write(b"".join((*parts, b"\r\n", body)))
        self.response_started = self.response_complete = True
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()
        return True
