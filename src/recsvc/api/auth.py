"""Who may do what: API keys, of which only digests are kept, each bound to a role.

A key is 256 random bits, so one SHA-256 of it is as hard to turn round as the key is to
guess; the salt and the slowness that passwords need would buy nothing.
"""

import hashlib
import hmac
import logging
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from secrets import token_urlsafe

from fastapi import Depends, Request, params
from fastapi.openapi.models import HTTPBearer
from fastapi.security.base import SecurityBase

from recsvc.api.problems import ProblemError
from recsvc.errors import AccessError

__all__ = ["DOCUMENTED", "Entry", "Keyring", "Role", "make_key", "needs", "parse"]

Headers = Iterable[tuple[bytes, bytes]]

_log = logging.getLogger(__name__)

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_ENTRY = re.compile(rf"(read|play|admin):({_NAME.pattern}):([0-9a-fA-F]{{64}})")


class Role(StrEnum):
    """What a key is good for. `ADMIN` is good for everything."""

    READ = "read"
    """To look at sessions and explanations."""
    PLAY = "play"
    """To make the calls of players: next, last, forget."""
    ADMIN = "admin"
    """To change which table is served."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A key as it is kept: its role, a name for people, its SHA-256."""

    role: Role
    name: str
    digest: bytes


def make_key(role: Role, name: str) -> tuple[str, str]:
    """Make a new key; return it and the entry, as text, that lets it in.

    Raises `AccessError` for a name that an entry cannot have.
    """
    if not _NAME.fullmatch(name):
        raise AccessError("a name is 1 to 64 letters, digits and _.-")
    key = f"rk_{token_urlsafe(32)}"
    return key, f"{role}:{name}:{_digest(key.encode()).hex()}"


def parse(text: str) -> tuple[Entry, ...]:
    """Read entries `role:name:sha256`, between commas, spaces or newlines; # begins a comment."""
    words = [word for line in text.splitlines() for word in _words(line)]
    found = [_ENTRY.fullmatch(word) for word in words]
    for number, match in enumerate(found, 1):
        if match is None:
            raise AccessError(f"entry {number} of RECSVC_API_KEYS is not role:name:sha256")
    return tuple(Entry(Role(m[1]), m[2], bytes.fromhex(m[3])) for m in found if m is not None)


class Keyring:
    """The keys that are let in.

    `listed` is entries as `parse` reads them, or the name of a file with them; such a file
    is read again when it changes, so keys come and go without a restart. With neither, the
    service is open; an `admin_key` by itself leaves it so, and guards what needs `ADMIN`.
    `look_every` is the seconds between looks at it. `before` is the entries that a file had
    when it could last be read, for when it cannot be now. Raises `AccessError`, which repeats
    nothing of `listed`: it may be a key.
    """

    def __init__(
        self,
        listed: str = "",
        admin_key: str | None = None,
        *,
        look_every: float = 1.0,
        before: str | None = None,
    ) -> None:
        self.closed = bool(listed.strip())
        self._file = Path(listed.strip()) if self.closed and ":" not in listed else None
        self._look_every = look_every
        self._stamp, self._looked = _stamp(self._file), time.monotonic()
        self._own: tuple[Entry, ...] = ()
        if admin_key is not None:
            self._own = (Entry(Role.ADMIN, "RECSVC_ADMIN_KEY", _digest(admin_key.encode())),)
        self.entries = self._own + (_first(self._file, before) if self._file else parse(listed))

    def current(self) -> str:
        """Return the entries that are let in now, as `parse` reads them, but for `admin_key`."""
        self._refresh()
        own = len(self._own)
        return "\n".join(f"{e.role}:{e.name}:{e.digest.hex()}" for e in self.entries[own:])

    def check(self, headers: Headers, role: Role | None) -> None:
        """Return if the headers hold a key for `role` (None: any key); else raise `ProblemError`.

        401 when there is no key or an unknown one, 403 when it is for something else.
        """
        if not self.closed and role is not Role.ADMIN:
            return
        self._refresh()
        if not self.closed and not self.entries:
            raise ProblemError(403, "no admin key is set (RECSVC_ADMIN_KEY); use the command line")
        key = _key_of(headers)
        if key is None:
            raise ProblemError(401, "this call needs a key", WWW_Authenticate="Bearer")
        roles = self._roles(key)
        if not roles:
            unknown = 'Bearer error="invalid_token"'
            raise ProblemError(401, "the key is not known", WWW_Authenticate=unknown)
        if role is not None and not roles & {role, Role.ADMIN}:
            wrong = f'Bearer error="insufficient_scope", scope="{role}"'
            raise ProblemError(403, f"this call needs a key for {role}", WWW_Authenticate=wrong)

    def _refresh(self) -> None:
        """Read a changed file of keys again; one that cannot be read changes nothing."""
        now = time.monotonic()
        if self._file is None or now - self._looked < self._look_every:
            return
        self._looked, stamp = now, _stamp(self._file)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self.entries = self._own + _read(self._file)
        except AccessError as error:
            _log.warning("the keys stay as they are: %s", error)
        else:
            _log.info("the keys have been read again: %d", len(self.entries))

    def _roles(self, key: bytes) -> set[Role]:
        """Return what a key is good for.

        Every entry is compared, whole digests at a time, so the time taken tells nothing.
        """
        digest = _digest(key)
        return {e.role for e in self.entries if hmac.compare_digest(e.digest, digest)}


class _Documented(SecurityBase):
    """Describes in OpenAPI how a key is given; what it is good for is checked elsewhere."""

    def __init__(self) -> None:
        self.scheme_name = "key"
        self.model = HTTPBearer(description="An API key; X-API-Key: <key> does as well.")

    async def __call__(self) -> None:
        """Do nothing."""


DOCUMENTED = Depends(_Documented())


def needs(role: Role | None) -> params.Depends:
    """Make a dependency that lets only callers with a key for `role` pass (None: any key)."""

    async def check(request: Request) -> None:
        keyring: Keyring = request.app.state.keyring
        keyring.check(request.scope["headers"], role)

    return params.Depends(check)


def _read(path: Path) -> tuple[Entry, ...]:
    try:
        return parse(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise AccessError("RECSVC_API_KEYS is neither entries nor a file with them") from error


def _first(file: Path, before: str | None) -> tuple[Entry, ...]:
    try:
        return _read(file)
    except AccessError as error:
        if before is None:
            raise
        _log.warning("the keys are those from before: %s", error)
        return parse(before)


def _stamp(path: Path | None) -> tuple[int, int, int] | None:
    """Return what changes when a file does."""
    try:
        found = path.stat() if path else None
    except OSError:
        return None
    return (found.st_ino, found.st_mtime_ns, found.st_size) if found else None


def _key_of(headers: Headers) -> bytes | None:
    bearer = None
    for name, value in headers:
        if name == b"x-api-key" and value.strip():
            return value.strip()
        if name == b"authorization":
            scheme, _, token = value.partition(b" ")
            if scheme.lower() == b"bearer":
                bearer = token.strip()
    return bearer


def _words(line: str) -> list[str]:
    return line.partition("#")[0].replace(",", " ").split()


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
