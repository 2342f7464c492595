"""``glocal run``: the loop on an area of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from glocal.cli.shell import Json, one_command, progress_bar, readable_errors
from glocal.cli.show import print_metrics
from glocal.loop.answers import with_answers
from glocal.loop.area.config import load, require_files, with_options
from glocal.loop.area.schema import AreaConfig
from glocal.loop.run import run_area

app = one_command()

Seed = Annotated[int | None, typer.Option(min=0, help="Seed of every random draw.")]
Precision = Annotated[
    float | None,
    typer.Option(min=0.5, max=0.999, help="Share of exported corrections that should be right."),
]
Rounds = Annotated[int | None, typer.Option(min=1, max=10, help="Turns of the loop, at most.")]


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
        run_and_print(with_answers(config, answers or ()), out, as_json)


def run_and_print(config: AreaConfig, out: Path, as_json: bool) -> None:
    """Run an area with a progress bar and print its results."""
    require_files(config)
    with progress_bar() as report:
        metrics = run_area(config, out, progress=report)
    if (metrics.model_extra or {}).get("nothing_to_do") and not as_json:
        typer.echo(f"Nothing to do: the run in {out} is complete.")
    print_metrics(metrics, out, as_json)
