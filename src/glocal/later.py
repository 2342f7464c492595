"""Modules that are imported when they are first asked for.

``import glocal`` and ``glocal --help`` stay quick, and what needs an optional package says how to
get it. Every other import stands at the top of its file.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from glocal.errors import MissingExtraError, install_line


def load(module: str, extra: str = "") -> ModuleType:
    """Import ``module``; ``extra`` is what has to be installed for it beside the core.

    Raises
    ------
    MissingExtraError
        A package is not installed; says what to install.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "glocal":
            raise
        fix = install_line(extra) if extra else "pip install -e ."
        raise MissingExtraError(
            f"this needs the package {error.name}, which is not installed; in the folder of the "
            f"source code run: {fix}"
        ) from error
