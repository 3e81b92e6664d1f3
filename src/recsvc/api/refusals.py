"""Answers that are given without the application: whole HTTP/1.1 responses."""

from recsvc.api.problems import ProblemError, render

__all__ = ["BUSY", "BUSY_CLOSING", "respond"]


def respond(status: int, detail: str, *, close: bool, **headers: str) -> bytes:
    """Write a problem as a whole HTTP/1.1 response, for where there is no application."""
    problem = ProblemError(status, detail, None, **headers)
    content = render(problem.fault)
    lines = [
        f"HTTP/1.1 {status} {problem.fault.title}",
        "content-type: application/problem+json",
        f"content-length: {len(content)}",
        *(f"{name}: {value}" for name, value in problem.headers.items()),
        *(["connection: close"] if close else []),
    ]
    return "\r\n".join([*lines, "", ""]).encode() + content


_TOO_MANY = "too many requests are in progress"
BUSY = respond(503, _TOO_MANY, close=False, Retry_After="1")
BUSY_CLOSING = respond(503, _TOO_MANY, close=True, Retry_After="1")
