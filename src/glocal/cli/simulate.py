"""``glocal simulate``: a synthetic earth to try the loop on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from glocal.cli.shell import Json, one_command, readable_errors, stdout
from glocal.synthetic import WORLDS, measured_rates, simulate, world_named, write_scene

app = one_command()


@app.command("simulate", epilog="Example: glocal simulate --out out/world --seed 1")
def simulate_world(
    out: Annotated[Path, typer.Option(help="New folder for the files.")],
    seed: Annotated[int, typer.Option(min=0, help="Seed of every random draw.")] = 0,
    world: Annotated[str, typer.Option(help=f"One of: {', '.join(WORLDS)}.")] = "standard",
    size: Annotated[int | None, typer.Option(help="Side of the area in cells of 10 m.")] = None,
    as_json: Json = False,
) -> None:
    """Write a made-up area: images, maps, OpenStreetMap, points, and apart from them the truth."""
    with readable_errors():
        scene = simulate(world_named(world, size), seed)
        write_scene(scene, out)
        rates = measured_rates(scene)
        if as_json:
            typer.echo(json.dumps({"world": world, "seed": seed, "rates": rates}, indent=2))
            return
        table = Table("error", "set", "drawn", title=f"World {world}, seed {seed}")
        for name, row in rates.items():
            table.add_row(name, f"{row['configured']:.3f}", f"{row['measured']:.3f}")
        stdout().print(table)
        typer.echo(f"Now run: glocal run {out / 'area.yaml'} --out DIR")
