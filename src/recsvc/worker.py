"""What runs in a worker, one of several processes that serve."""

import logging
import multiprocessing
import os
import signal
import sys
import threading

from fastapi import FastAPI
from uvicorn.config import STARTUP_FAILURE

from recsvc import logs
from recsvc.app import create_app, load_keys
from recsvc.errors import RecsvcError
from recsvc.settings import read_settings

__all__ = ["make"]

_log = logging.getLogger(__name__)


def make(keys: str) -> FastAPI:
    """Make the application; the worker ends by itself when its supervisor is gone.

    `keys` is the entries that are let in while the file of them cannot be read. What is wrong
    with the settings ends the worker with a line in the log.
    """
    threading.Thread(target=_outlive_nobody, name="supervisor", daemon=True).start()
    logs.configure("error")  # until the settings say how much is wanted
    try:
        settings = read_settings()
        logs.configure(settings.log_level)
        return create_app(settings, load_keys(settings, keys))
    except RecsvcError as error:
        _log.error("this worker cannot start: %s", error)
        sys.exit(STARTUP_FAILURE)


def _outlive_nobody() -> None:
    """End as at SIGTERM once the supervisor is gone, however it ended.

    Nobody would replace this worker any more, and the port would stay taken. The system closes
    the supervisor's end of a pipe, which is what is waited for, on Linux and elsewhere.
    """
    supervisor = multiprocessing.parent_process()
    if supervisor is not None:
        supervisor.join()
        os.kill(os.getpid(), signal.SIGTERM)
