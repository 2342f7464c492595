"""Commands whose module is imported when they are asked for.

So ``glocal --help`` stays quick, and what needs an optional package says how to get it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import typer
from typer.core import TyperCommand

from glocal import later
from glocal.cli.shell import readable_errors


@dataclass(frozen=True, slots=True, kw_only=True)
class Later:
    """A command, or a group of commands, that is listed before it is imported."""

    name: str
    module: str
    """Holds the command as ``app``, a typer app."""

    help: str
    """The first paragraph of the command's own help."""

    extra: str = ""
    """What has to be installed beside the core."""

    def load(self) -> Any:
        """Import the module and return its command.

        Raises
        ------
        typer.Exit
            A package is not installed; what to install is on stderr.
        """
        with readable_errors():
            return typer.main.get_command(later.load(self.module, self.extra).app)


def add_command(app: typer.Typer, command: Later) -> None:
    """List a command in ``app``; whoever calls it, or asks for its help, gets the real one."""

    class Listed(TyperCommand):
        """Gives way to the real command, which parses the words after its name."""

        def make_context(self, *words: Any, **options: Any) -> Any:
            return command.load().make_context(*words, **options)

    app.command(command.name, cls=Listed, help=command.help)(lambda: None)
