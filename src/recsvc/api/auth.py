"""Who may change which table is served."""

import hashlib
import hmac

from fastapi import Request
from pydantic import SecretStr

from recsvc.api.problems import ProblemError

__all__ = ["AdminKey"]


class AdminKey:
    """A dependency that lets only callers with the admin key pass."""

    def __init__(self, key: SecretStr | None) -> None:
        self._digest = None if key is None else _digest(key.get_secret_value().encode())

    async def __call__(self, request: Request) -> None:
        """Return if the caller has the key; raise `ProblemError` 401 or 403 if not."""
        if self._digest is None:
            raise ProblemError(
                403, "no admin key is set (RECSVC_ADMIN_KEY); use the recsvc command"
            )
        given = request.headers.get("x-api-key", "")
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if not given and scheme.lower() == "bearer":
            given = token.strip()
        # Headers are latin-1 on the wire; digests are of equal length, so timing tells nothing.
        if not hmac.compare_digest(_digest(given.encode("latin-1", "replace")), self._digest):
            raise ProblemError(401, "this call needs the admin key", WWW_Authenticate="Bearer")


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
