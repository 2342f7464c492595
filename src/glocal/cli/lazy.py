"""Command groups whose module is imported when one of their commands is asked for.

So ``glocal --help`` stays quick, and what needs an optional package says how to get it.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from glocal.cli.shell import readable_errors
from glocal.errors import MissingExtraError

__all__ = ["add_group"]


def add_group(app: typer.Typer, name: str, module: str, *, extra: str, help: str) -> None:
    """Add the typer app of ``module``, which needs an extra, as ``glocal name``.

    Raises
    ------
    MissingExtraError
        When one of its commands is asked for and a package is not installed; shown as text.
    """

    class Group(TyperGroup):
        """Asks the module for its commands."""

        def list_commands(self, ctx: Any) -> list[str]:
            return list(_commands(module, extra))

        def get_command(self, ctx: Any, cmd_name: str) -> TyperCommand | None:
            return _commands(module, extra).get(cmd_name)

    group = typer.Typer(cls=Group, help=help, no_args_is_help=True, rich_markup_mode="rich")
    group.callback()(lambda: None)
    app.add_typer(group, name=name)


def _commands(module: str, extra: str) -> dict[str, Any]:
    """Return the commands of the app in a module, by name."""
    with readable_errors():
        try:
            found = import_module(module)
        except ModuleNotFoundError as error:
            if error.name is None or error.name.partition(".")[0] == "glocal":
                raise
            raise MissingExtraError(
                f"this command needs the package {error.name}, which is not installed; run: "
                f"pip install 'glocal[{extra}]'"
            ) from error
    group: Any = typer.main.get_command(found.app)
    commands: dict[str, Any] = group.commands
    return commands
