"""The command ``glocal``: parse, call, print."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from glocal import __version__
from glocal.cli.doctor import findings, healthy, print_findings, to_json
from glocal.cli.show import print_run, read_metrics
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
from glocal.run.config import load, require_files, with_options
from glocal.run.demo import CREDITS, demo_config, demo_points, find_data
from glocal.run.loop import run_area
from glocal.run.schema import AreaConfig

__all__ = ["app"]

EXIT_CODES: tuple[tuple[type[GlocalError], int], ...] = (
    (ConfigError, 2),
    (SourceUnavailableError, 3),
    (BadSourceError, 3),
    (UnknownSensorError, 3),
    (LicenceConflictError, 3),
    (MissingExtraError, 3),
    (RunError, 4),
)
EXIT_HELP = (
    "Exit codes: 0 done, 1 unexpected, 2 wrong option or area.yaml, "
    "3 a source is bad or not there, 4 the run folder is not usable."
)

app = typer.Typer(
    help="Let imagery, OpenStreetMap, field points and maps correct each other. "
    "No source is master; every one gets its corrections back.",
    epilog=EXIT_HELP,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)

Json = Annotated[bool, typer.Option("--json", help="Print JSON only, for programs.")]
Seed = Annotated[int | None, typer.Option(min=0, help="Seed of every random draw.")]
Rounds = Annotated[int | None, typer.Option(min=1, max=10, help="Turns of the loop, at most.")]


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"glocal {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Let imagery, OpenStreetMap, field points and maps correct each other."""


@app.command(epilog="Example: glocal demo --out out/demo")
def demo(
    out: Annotated[Path, typer.Option(help="Folder of the results.")] = Path("out/demo"),
    data: Annotated[Path | None, typer.Option(help="Folder of the demo data.")] = None,
    as_json: Json = False,
) -> None:
    """Run the loop on real data of the Havel lakes, Germany. Needs no network."""
    with _readable_errors():
        config = demo_config(find_data(data), demo_points())
        if not as_json:
            _print_credits(_stdout())
        _run(config, out, as_json)


@app.command(epilog="Example: glocal run area.yaml --out out/mine --rounds 2 --seed 7")
def run(
    area: Annotated[Path, typer.Argument(help="Configuration, see examples/havel/area.yaml.")],
    out: Annotated[Path, typer.Option(help="Folder of the results; an unfinished run resumes.")],
    rounds: Rounds = None,
    seed: Seed = None,
    as_json: Json = False,
) -> None:
    """Run the loop on your own area. Nothing is uploaded, no source file is changed."""
    with _readable_errors():
        _run(with_options(load(area), rounds=rounds, seed=seed), out, as_json)


@app.command(epilog="Example: glocal show out/demo --json | jq .estimate")
def show(
    folder: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    as_json: Json = False,
) -> None:
    """Print the results of a run: gains, baselines, corrections, rounds."""
    with _readable_errors():
        _print(read_metrics(folder), folder, as_json)


@app.command(epilog="Example: glocal doctor")
def doctor(as_json: Json = False) -> None:
    """Say what is installed, what is missing, and how to get it."""
    with _readable_errors():
        found = findings()
        if as_json:
            typer.echo(json.dumps(to_json(found), indent=2))
        else:
            print_findings(found, _stdout())
        if not healthy(found):
            raise typer.Exit(1)


def _run(config: AreaConfig, out: Path, as_json: bool) -> None:
    require_files(config)
    with _progress() as report:
        metrics = run_area(config, out, progress=report)
    if metrics.get("nothing_to_do") and not as_json:
        typer.echo(f"Nothing to do: the run in {out} is complete.")
    _print(metrics, out, as_json)


def _print(metrics: dict[str, Any], folder: Path, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(metrics, indent=2, sort_keys=True, ensure_ascii=False))
    else:
        print_run(metrics, folder, _stdout())


def _stdout() -> Console:
    """Return a console on stdout; wide where it is no terminal, so that tables stay readable."""
    console = Console()
    return console if console.is_terminal else Console(width=140)


def _print_credits(console: Console) -> None:
    table = Table("used", "what", "licence", "attribution", header_style="bold")
    for name, row in CREDITS.items():
        table.add_row(name, *row)
    console.print(table)


@contextmanager
def _progress() -> Iterator[Callable[[str, float], None]]:
    """Yield a function (stage, share done) that draws a bar on stderr if that is a terminal."""
    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task("start", total=1.0)
        yield lambda stage, share: bar.update(task, description=stage, completed=share)


@contextmanager
def _readable_errors() -> Iterator[None]:
    """Turn an exception into one block on stderr and the exit code of its kind."""
    try:
        yield
    except GlocalError as error:
        code = next((code for kind, code in EXIT_CODES if isinstance(error, kind)), 1)
        typer.echo(f"glocal: {error}", err=True)
        raise typer.Exit(code) from None
    except (typer.Exit, typer.Abort, KeyboardInterrupt):
        raise
    except Exception as error:
        if os.environ.get("GLOCAL_TRACEBACK"):
            raise
        typer.echo(
            f"glocal: unexpected {type(error).__name__}: {error}\n"
            "This is a mistake of the program. Set GLOCAL_TRACEBACK=1, run the same command "
            "again, and report what it prints; finished parts of the run are kept.",
            err=True,
        )
        raise typer.Exit(1) from None
