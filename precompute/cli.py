"""The `precompute` command: from a listening log to a table, and how good that is."""

import recsvc.cli
from recsvc.late import Late, program

__all__ = ["COMMANDS", "app"]

COMMANDS = {
    "train": Late("precompute.train_cli", "Train on a listening log and write an artifact."),
    "show": Late(
        "precompute.show_cli",
        "Show what an artifact is, and some of its lists with names, for a person to judge.",
    ),
    "publish": recsvc.cli.COMMANDS["publish"],
    "world": Late("precompute.simulation.cli", "Make a world of tracks and listeners."),
    "listen": Late(
        "precompute.simulation.cli",
        "Write the log of a policy that runs in process: a cold log, or the oracle's.",
    ),
    "simulate": Late(
        "precompute.simulation.cli",
        "Send the listeners of a world to a service and say how long they stayed.",
    ),
    "demo-log": Late(
        "precompute.simulation.cli",
        "Make a small log and its catalogue, from which sensible neighbours can be trained.",
    ),
    "compare": Late(
        "precompute.simulation.trials_cli",
        "Compare the service's policies in process: one session a listener with each.",
    ),
    "experiment": Late(
        "precompute.simulation.trials_cli",
        "Run the whole loop: world, cold log, rounds, every policy over HTTP, report.",
    ),
    "report": Late("precompute.evaluation.cli", "Compare the treatments of an experiment."),
}

app = program("The offline half of recsvc: from a listening log to a table.", COMMANDS)
