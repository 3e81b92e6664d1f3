"""The `recsvc` command: serve, and say what is served."""

from recsvc.late import Late, program

__all__ = ["COMMANDS", "app"]

_TABLES = "recsvc.tables_cli"

COMMANDS = {
    "serve": Late("recsvc.serve_cli", "Serve the API until interrupted."),
    "key": Late(
        "recsvc.serve_cli", "Make an API key, and the entry of RECSVC_API_KEYS that lets it in."
    ),
    "publish": Late(_TABLES, "Check an artifact, put it into Redis, and make it live."),
    "rollback": Late(_TABLES, "Make the previous table live again."),
    "status": Late(_TABLES, "Say which table is live."),
    "events": Late(
        _TABLES, "Write all events to standard output, as the lines of a listening log."
    ),
}

app = program(
    "A next-track recommendation service. Settings come from the environment and from "
    ".env; .env.example lists them all.",
    COMMANDS,
)
