"""The commands around the API: to serve it, and to make keys for it."""

import signal
from contextlib import nullcontext, suppress
from typing import Annotated

import typer

from recsvc import listening, logs, server
from recsvc.api.auth import Role, make_key
from recsvc.app import load_keys, load_policies
from recsvc.plainly import plainly
from recsvc.redis.connection import check_url
from recsvc.redis.embedded import embedded_server
from recsvc.settings import MOST_PORT, MOST_WORKERS, read_settings

__all__ = ["app"]

app = typer.Typer(help="The API.", no_args_is_help=True)


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[
        int | None,
        typer.Option(help="Port to listen on; 0 is any free one.", min=0, max=MOST_PORT),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Worker processes.", min=1, max=MOST_WORKERS)
    ] = None,
) -> None:
    """Serve the API until interrupted."""
    # uvicorn raises the interrupt again once it has stopped.
    with plainly(), suppress(KeyboardInterrupt):
        settings = read_settings()
        # What is wrong with these is one line here, and a traceback later.
        keyring = load_keys(settings)
        load_policies(settings)
        if not settings.embedded:
            check_url(settings.redis_url.get_secret_value())
        host = host or settings.host
        port = listening.free_port(host, settings.port if port is None else port)
        logs.configure(settings.log_level)
        # It raises a SIGTERM again too, which by default would end us there, before the
        # embedded server is told.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        _end_at_hangup()
        # Held here too, so that it outlives a worker that is being replaced.
        store = (
            embedded_server(settings.data_dir, fsync=settings.redis_fsync)
            if settings.embedded
            else nullcontext()
        )
        with store:
            figures = settings.data_dir / "figures" / str(port)
            server.run(
                host, port, workers or settings.workers, typer.echo, figures, keyring.current
            )


def _end_at_hangup() -> None:
    """Take a SIGHUP for a SIGTERM, unless it is ignored, as under `nohup`.

    By default it would end us there and then, before the embedded server is told. Several
    workers are replaced at one, once they are there.
    """
    if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
        signal.signal(signal.SIGHUP, lambda *_: signal.raise_signal(signal.SIGTERM))


@app.command()
def key(
    role: Annotated[Role, typer.Argument(help="What the key is for.")],
    name: Annotated[str, typer.Argument(help="Whose it is: letters, digits and _.- only.")],
) -> None:
    """Make an API key, and the entry of RECSVC_API_KEYS that lets it in."""
    with plainly():
        made, entry = make_key(role, name)
    typer.echo(f"key    {made}   shown this once; give it to the caller")
    typer.echo(f"entry  {entry}")
