"""The command ``glocal``: parse, call, print."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from glocal import __version__
from glocal.cli.answers import answers
from glocal.cli.doctor import findings, healthy, print_findings, to_json
from glocal.cli.lazy import add_group
from glocal.cli.shell import EXIT_HELP, Json, progress_bar, readable_errors, stdout
from glocal.cli.show import print_run, read_metrics
from glocal.cli.simulate import evaluate, simulate_world
from glocal.run.answers import with_answers
from glocal.run.config import load, require_files, with_options
from glocal.run.demo import CREDITS, demo_config, demo_points, find_data
from glocal.run.loop import run_area
from glocal.run.schema import AreaConfig

__all__ = ["app"]

app = typer.Typer(
    help="Let imagery, OpenStreetMap, field points and maps correct each other. "
    "No source is master; every one gets its corrections back.",
    epilog=EXIT_HELP,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)

add_group(
    app,
    "model",
    "glocal.cli.model",
    extra="train",
    help="Pack images, pretrain the model that embeds them, and use it.",
)

Seed = Annotated[int | None, typer.Option(min=0, help="Seed of every random draw.")]
Precision = Annotated[
    float | None,
    typer.Option(min=0.5, max=0.999, help="Share of exported corrections that should be right."),
]
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
    with readable_errors():
        config = demo_config(find_data(data), demo_points())
        if not as_json:
            _print_credits(stdout())
        _run(config, out, as_json)


@app.command(epilog="Example: glocal run area.yaml --out out/mine --rounds 2 --seed 7")
def run(
    area: Annotated[Path, typer.Argument(help="Configuration, see examples/havel/area.yaml.")],
    out: Annotated[Path, typer.Option(help="Folder of the results; an unfinished run resumes.")],
    answers: Annotated[
        list[Path] | None, typer.Option(help="Folder DIR/answers of 'glocal answers'.")
    ] = None,
    rounds: Rounds = None,
    seed: Seed = None,
    precision: Precision = None,
    as_json: Json = False,
) -> None:
    """Run the loop on your own area. Nothing is uploaded, no source file is changed."""
    with readable_errors():
        config = with_options(load(area), rounds=rounds, seed=seed, precision=precision)
        _run(with_answers(config, answers or ()), out, as_json)


@app.command(epilog="Example: glocal show out/demo --json | jq .estimate")
def show(
    folder: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    as_json: Json = False,
) -> None:
    """Print the results of a run: gains, baselines, corrections, rounds."""
    with readable_errors():
        _print(read_metrics(folder), folder, as_json)


app.command(epilog="Example: glocal answers out/mine challenge.geojson newer.osm.pbf")(answers)
app.command("simulate", epilog="Example: glocal simulate --out out/world --seed 1")(simulate_world)
app.command(epilog="Example: glocal evaluate out/mine --truth out/world/truth")(evaluate)


@app.command(epilog="Example: glocal doctor")
def doctor(as_json: Json = False) -> None:
    """Say what is installed, what is missing, and how to get it."""
    with readable_errors():
        found = findings()
        if as_json:
            typer.echo(json.dumps(to_json(found), indent=2))
        else:
            print_findings(found, stdout())
        if not healthy(found):
            raise typer.Exit(1)


def _run(config: AreaConfig, out: Path, as_json: bool) -> None:
    require_files(config)
    with progress_bar() as report:
        metrics = run_area(config, out, progress=report)
    if metrics.get("nothing_to_do") and not as_json:
        typer.echo(f"Nothing to do: the run in {out} is complete.")
    _print(metrics, out, as_json)


def _print(metrics: dict[str, Any], folder: Path, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(metrics, indent=2, sort_keys=True, ensure_ascii=False))
    else:
        print_run(metrics, folder, stdout())


def _print_credits(console: Console) -> None:
    table = Table("used", "what", "licence", "attribution", header_style="bold")
    for name, row in CREDITS.items():
        table.add_row(name, *row)
    console.print(table)
