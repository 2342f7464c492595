"""A synthetic earth to try the loop on, and the score of a run against its truth."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from glocal.cli.shell import Json, readable_errors, stdout
from glocal.run.known_truth import evaluate_run
from glocal.simulate import WORLDS, measured_rates, simulate, world_named, write_scene

__all__ = ["evaluate", "simulate_world"]


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


def evaluate(
    out: Annotated[Path, typer.Argument(help="Folder of a finished run on a synthetic world.")],
    truth: Annotated[Path, typer.Option(help="The folder 'truth' of that world.")],
    as_json: Json = False,
) -> None:
    """Score a run on a synthetic world against its truth: the map, and what each source gained."""
    with readable_errors():
        scores = evaluate_run(out, truth)
        if as_json:
            typer.echo(json.dumps(scores, indent=2, sort_keys=True))
            return
        stdout().print(_maps({"the loop": scores["estimate"], **scores["baselines"]}))
        table = Table("source", "metric", "before", "after", "gain (95 %)", "n")
        for name, row in scores["sources"].items():
            if "why" in row:
                table.add_row(name, f"not scored: {row['why']}", "–", "–", "–", "–")
                continue
            gain = row["after"] - row["before"]
            text = f"{gain:+.3f} ({row['low']:+.3f} to {row['high']:+.3f})"
            shares = (f"{row['before']:.3f}", f"{row['after']:.3f}")
            table.add_row(name, row["metric"], *shares, text, str(row["n"]))
        stdout().print(table)


def _maps(rows: Mapping[str, Mapping[str, Any]]) -> Table:
    """Return the scores of the loop's map and of simpler ways to make one."""
    table = Table("map", "accuracy", "macro-F1", "log-loss", "calibration error")
    for name, row in rows.items():
        if "why" in row:
            table.add_row(name, f"not made: {row['why']}", "–", "–", "–")
            continue
        scores = (row[key] for key in ("accuracy", "macro_f1", "log_loss", "ece"))
        table.add_row(name, *(f"{one:.3f}" for one in scores))
    return table
