"""The command ``glocal``: a list of commands, each in a module of its own."""

from __future__ import annotations

from typing import Annotated

import typer

from glocal import __version__
from glocal.cli.lazy import add_command
from glocal.cli.shell import EXIT_HELP

COMMANDS = {
    "demo": "Run the loop on real data of the Havel lakes, Germany. Needs no network.",
    "run": "Run the loop on your own area. Nothing is uploaded, no source file is changed.",
    "show": "Print the results of a run: gains, baselines, corrections, rounds.",
    "answers": "Take people's answers to a run's corrections; the next run hears them. "
    "Sends nothing.",
    "check-proposals": "Refuse proposals to OpenStreetMap whose elements have changed since. "
    "Exit code 3 then.",
    "simulate": "Write a made-up area: images, maps, OpenStreetMap, points, "
    "and apart from them the truth.",
    "evaluate": "Score a run on a synthetic world against its truth: the map, and what each "
    "source gained.",
    "doctor": "Say what is installed, what is missing, and how to get it.",
    "model": "Pack images, pretrain the model that embeds them, and use it.",
}
"""Name -> first paragraph of the command's own help."""

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


for _name, _help in COMMANDS.items():
    add_command(app, _name, _help)
