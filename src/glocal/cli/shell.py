"""What the commands share: options, a progress bar, errors as one readable block."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from glocal.errors import (
    BadSourceError,
    ConfigError,
    GlocalError,
    LicenceConflictError,
    MissingExtraError,
    RunError,
    SourceUnavailableError,
    UnknownSensorError,
)

EXIT_CODES: tuple[tuple[type[GlocalError], int], ...] = (
    (ConfigError, 2),
    (SourceUnavailableError, 3),
    (BadSourceError, 3),
    (UnknownSensorError, 3),
    (LicenceConflictError, 3),
    (MissingExtraError, 3),
    (RunError, 4),
    (GlocalError, 1),
)
ENCODER = "msgfm.errors"
"""Module of the encoder's errors, known by name: importing it would bring PyTorch. Code 3."""

EXIT_HELP = (
    "Exit codes: 0 done, 1 unexpected, 2 wrong option or area.yaml, "
    "3 a source is bad or not there, 4 the run folder is not usable."
)

Json = Annotated[bool, typer.Option("--json", help="Print JSON only, for programs.")]


def one_command() -> typer.Typer:
    """Return an app for the one command of a module, which ``glocal`` lists."""
    return typer.Typer(add_completion=False, rich_markup_mode="rich")


def stdout() -> Console:
    """Return a console on stdout; wide where it is no terminal, so that tables stay readable."""
    console = Console()
    return console if console.is_terminal else Console(width=140)


@contextmanager
def progress_bar() -> Iterator[Callable[[str, float], None]]:
    """Yield a function (stage, share done) that draws a bar on stderr if that is a terminal."""
    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task("start", total=1.0)
        yield lambda stage, share: bar.update(task, description=stage, completed=share)


@contextmanager
def readable_errors() -> Iterator[None]:
    """Turn an exception into one block on stderr and the exit code of its kind."""
    try:
        yield
    except (typer.Exit, typer.Abort, KeyboardInterrupt):
        raise
    except Exception as error:
        encoders = any(kind.__module__ == ENCODER for kind in type(error).__mro__)
        ours = (code for kind, code in EXIT_CODES if isinstance(error, kind))
        code = 3 if encoders else next(ours, None)
        if code is not None:
            typer.echo(f"glocal: {error}", err=True)
            raise typer.Exit(code) from None
        if os.environ.get("GLOCAL_TRACEBACK"):
            raise
        typer.echo(
            f"glocal: unexpected {type(error).__name__}: {error}\n"
            "This is a mistake of the program. Set GLOCAL_TRACEBACK=1, run the same command "
            "again, and report what it prints; finished parts of the run are kept.",
            err=True,
        )
        raise typer.Exit(1) from None


def print_json(values: dict[str, Any]) -> None:
    """Print names and values for programs, sorted by name."""
    typer.echo(json.dumps(values, indent=2, sort_keys=True, ensure_ascii=False))


def print_rows(rows: dict[str, Any], as_json: bool) -> None:
    """Print names and values: as JSON, or as a table to read."""
    if as_json:
        print_json(rows)
        return
    table = Table(show_header=False)
    for name, value in rows.items():
        table.add_row(name.replace("_", " "), _text(value))
    stdout().print(table)


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return "\n".join(f"{name}: {_in_line(one)}" for name, one in value.items())
    if isinstance(value, list):
        return "\n".join(map(str, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _in_line(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_text(one)}" for name, one in value.items())
    return _text(value)
