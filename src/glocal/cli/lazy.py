"""Commands whose module is imported when they are asked for.

So ``glocal --help`` stays quick, and what needs an optional package says how to get it.
"""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperCommand

from glocal import later
from glocal.cli.shell import readable_errors

EXTRAS = {"model": "train"}
"""Command -> what has to be installed for it beside the core."""


def load(name: str) -> Any:
    """Import the module that is called as the command, and return what its ``app`` holds.

    Where a package is not installed, what to install is told on stderr.
    """
    with readable_errors():
        module = later.load(f"glocal.cli.{name.replace('-', '_')}", EXTRAS.get(name, ""))
        return typer.main.get_command(module.app)


def add_command(app: typer.Typer, name: str, text: str) -> None:
    """List a command in ``app``; whoever calls it, or asks for its help, gets the real one."""

    class Listed(TyperCommand):
        """Gives way to the real command, which parses the words after its name."""

        def make_context(self, *words: Any, **options: Any) -> Any:
            return load(name).make_context(*words, **options)

    app.command(name, cls=Listed, help=text)(lambda: None)
