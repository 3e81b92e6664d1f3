"""Compiles what recsvc has in C, where there is a compiler: without it, the Python answers.

`CC` names the compiler; one that fails (`CC=false`) leaves it at the Python.
"""

import os
import shlex
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_PACKAGE = Path("src/recsvc/recommenders")
SOURCES = (_PACKAGE / "inference.c", _PACKAGE / "rows.c")
LIBRARY = _PACKAGE / "_compiled.so"
# Sums may be taken in any order, as numpy does, or no loop could be vectorised; but what is no
# number stays none, for evidence is searched for it.
FLAGS = [
    *("-std=gnu11", "-O3", "-fPIC", "-shared", "-fvisibility=hidden", "-Wall", "-Wextra"),
    *("-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros", "-fassociative-math"),
]


def compile_library(root: Path, library: Path, *more: str) -> None:
    """Compile what is in `root`; raises `OSError` or `subprocess.CalledProcessError`."""
    compiler = shlex.split(os.environ.get("CC", "cc"))
    sources = [str(root / source) for source in SOURCES]
    command = [*compiler, *FLAGS, *more, "-o", str(library), *sources, "-lm"]
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)


class CustomBuildHook(BuildHookInterface[Any]):
    """Puts the library beside its source, and into the wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile before the files are collected."""
        root = Path(self.root)
        library = root / LIBRARY
        library.unlink(missing_ok=True)
        try:
            compile_library(root, library)
        except (OSError, subprocess.SubprocessError) as error:
            said = getattr(error, "stderr", None) or error
            self.app.display_warning(f"not compiled, answers will take longer: {said}")
            return
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["artifacts"].append(f"/{LIBRARY.as_posix()}")
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{platform}"  # it knows nothing of Python
