"""The ceiling: the least that any Python service on uvicorn does for a request.

A bare ASGI function reads the body and answers JSON of the size that the service answers,
always the same. The server under it is set up for speed. Whatever else a service does costs
it a share of this.
"""

from typing import Annotated

import typer
import uvicorn
from starlette.types import Receive, Scope, Send

__all__ = ["app", "main"]

_CONTENT = (
    b'{"user":1,"track":677,"recommender":"contextual","propensity":0.013712345678901234,'
    b'"policy":"ensemble","table_version":"e03eaf57881a","request_id":"c76e72befa9d19e1",'
    b'"session":"f73b9e759b15af4e","position":0,"fallback":false,"experiments":{},'
    b'"degraded":false}'
)
_START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(_CONTENT)),
    ],
}
_BODY = {"type": "http.response.body", "body": _CONTENT}


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer whatever is asked."""
    while (await receive()).get("more_body"):
        pass
    await send(_START)
    await send(_BODY)


def main(port: Annotated[int, typer.Option()]) -> None:
    """Serve on loopback until interrupted."""
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=port,
        loop="uvloop",
        http="httptools",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        backlog=2048,
        timeout_keep_alive=75,
    )


if __name__ == "__main__":
    typer.run(main)
