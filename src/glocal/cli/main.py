"""The command ``glocal``: a list of commands, each in a module of its own."""

from __future__ import annotations

from typing import Annotated

import typer

from glocal import __version__
from glocal.cli.lazy import Later, add_command
from glocal.cli.shell import EXIT_HELP

COMMANDS = (
    Later(
        name="demo",
        module="glocal.cli.demo",
        help="Run the loop on real data of the Havel lakes, Germany. Needs no network.",
    ),
    Later(
        name="run",
        module="glocal.cli.run",
        help="Run the loop on your own area. Nothing is uploaded, no source file is changed.",
    ),
    Later(
        name="show",
        module="glocal.cli.show",
        help="Print the results of a run: gains, baselines, corrections, rounds.",
    ),
    Later(
        name="answers",
        module="glocal.cli.answers",
        help="Take people's answers to a run's corrections; the next run hears them. "
        "Sends nothing.",
    ),
    Later(
        name="check-proposals",
        module="glocal.cli.stale",
        help="Refuse proposals to OpenStreetMap whose elements have changed since. "
        "Exit code 3 then.",
    ),
    Later(
        name="simulate",
        module="glocal.cli.simulate",
        help="Write a made-up area: images, maps, OpenStreetMap, points, "
        "and apart from them the truth.",
    ),
    Later(
        name="evaluate",
        module="glocal.cli.evaluate",
        help="Score a run on a synthetic world against its truth: the map, and what each "
        "source gained.",
    ),
    Later(
        name="doctor",
        module="glocal.cli.doctor",
        help="Say what is installed, what is missing, and how to get it.",
    ),
    Later(
        name="model",
        module="glocal.cli.model",
        help="Pack images, pretrain the model that embeds them, and use it.",
        extra="train",
    ),
)

app = typer.Typer(
    help="Let imagery, OpenStreetMap, field points and maps correct each other. "
    "No source is master; every one gets its corrections back.",
    epilog=EXIT_HELP,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)


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


for _one in COMMANDS:
    add_command(app, _one)
