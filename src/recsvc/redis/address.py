"""Where a store is and how to log in, read from a URL as redis-py reads it."""

import asyncio
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from redis.asyncio.connection import SSLConnection, parse_url

from recsvc.errors import RecsvcError
from recsvc.redis.resp import command

__all__ = ["Address", "whereabouts"]

_UNDERSTOOD = {"host", "port", "path", "db", "username", "password", "client_name"}


@dataclass(frozen=True, slots=True)
class Address:
    """One server: at a `path` of a unix socket, else at `host` and `port`, maybe behind TLS."""

    host: str = "localhost"
    port: int = 6379
    path: str | None = None
    db: int = 0
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    client_name: str | None = None
    tls: ssl.SSLContext | None = field(default=None, repr=False)

    @staticmethod
    def parse(url: str) -> "Address | None":
        """Read redis://, rediss:// or unix://; None when an option in it is for redis-py alone.

        Raises `RecsvcError` for a URL that redis-py would not read either.
        """
        try:
            options: dict[str, Any] = dict(parse_url(url))
        except ValueError:  # its text may hold a piece of a password
            raise RecsvcError("the Redis URL cannot be read") from None
        kind = options.pop("connection_class", None)
        secured = {name: options.pop(name) for name in list(options) if name.startswith("ssl_")}
        if not options.keys() <= _UNDERSTOOD or (secured and kind is not SSLConnection):
            return None
        # redis-py knows what its own options mean.
        tls = SSLConnection(**secured).ssl_context.get() if kind is SSLConnection else None
        return Address(**options, tls=tls)

    async def connect(self, protocol: Callable[[], asyncio.Protocol]) -> None:
        """Open a connection; raises `OSError` (TLS faults among them)."""
        loop = asyncio.get_running_loop()
        if self.path is not None:
            await loop.create_unix_connection(protocol, self.path)
        else:
            await loop.create_connection(protocol, self.host, self.port, ssl=self.tls)

    def login(self) -> Iterator[bytes]:
        """Yield the commands that every connection begins with."""
        if self.username:
            yield command("AUTH", self.username, self.password or "")
        elif self.password:
            yield command("AUTH", self.password)
        if self.client_name is not None:
            yield command("CLIENT", "SETNAME", self.client_name)
        if self.db:
            yield command("SELECT", self.db)


def whereabouts(url: str) -> str:
    """Return which store a URL leads to, in one form.

    How to get there is not in it: neither user and password, nor TLS, nor options.
    """
    parts = urlsplit(url)
    kind = "redis" if parts.scheme == "rediss" else parts.scheme
    path, options = parts.path.strip("/"), parse_qs(parts.query)
    service = ""
    if kind == "unix":
        service, path = path, ""
    elif kind == "redis+sentinel":
        service, _, path = path.partition("/")
        service = service or "mymaster"
    port = 26379 if kind == "redis+sentinel" else 6379
    found = [urlsplit(f"//{host}") for host in parts.netloc.rpartition("@")[2].split(",")]
    hosts = sorted(f"{host.hostname or 'localhost'}:{host.port or port}" for host in found)
    return f"{kind}://{','.join(hosts)}/{service}/{int(options.get('db', [path or '0'])[0])}"
