"""``glocal model``: pack images, pretrain the model that embeds them, and use it."""

from __future__ import annotations

import os
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from glocal.cli.model_tasks import app as tasks
from glocal.cli.shell import EXIT_HELP, Json, print_rows, progress_bar, readable_errors
from glocal.train.data.folders import open_pool
from glocal.train.data.folders import pack as pack_folders
from glocal.train.data.pool import Pool
from glocal.train.pretraining.pretrain import RunOptions
from glocal.train.pretraining.pretrain import pretrain as train
from glocal.train.pretraining.recipe import PretrainConfig, Recipe
from glocal.train.tasks.embedding import embed_images, write_vectors
from msgfm import Encoder, ObjectiveConfig, base, nano, tiny

OBJECTIVE = ObjectiveConfig(joint=0.25, agree=1.0)
"""What told scenes apart better than random weights; the paper's objective alone did not."""

app = typer.Typer(
    add_completion=False, no_args_is_help=True, rich_markup_mode="rich", epilog=EXIT_HELP
)


Size = StrEnum("Size", ["nano", "tiny", "base"])
CONFIGS = {Size.nano: nano, Size.tiny: tiny, Size.base: base}

Data = Annotated[
    list[Path],
    typer.Option(
        help="Folder or file of shards, rasters, STAC items or Zarr stores; may be repeated. "
        "A pool.toml in it says what names do not tell."
    ),
]
Side = Annotated[int, typer.Option(min=16, help="Side of a window in pixels.")]


@app.callback()
def _model() -> None:
    """Pack images, pretrain the model that embeds them, and use it."""


@app.command(epilog="Example: glocal model pack --data images --out pool")
def pack(
    data: Data,
    out: Annotated[Path, typer.Option(help="New folder of the shards.")],
    side: Side = 64,
    max_mb: Annotated[float, typer.Option(min=1, help="Largest shard in megabytes.")] = 60.0,
    max_days: Annotated[float, typer.Option(min=0, help="Days between paired images.")] = 3.0,
    as_json: Json = False,
) -> None:
    """Cut images into windows, pair them by place and date, and write them as shards."""
    with readable_errors():
        summary = pack_folders(data, out, side=side, max_mb=max_mb, max_days=max_days)
        windows = {"+".join(sensors): n for sensors, n in sorted(summary.windows.items())}
        shards = [str(path) for path in summary.paths]
        told = {name: getattr(summary, name) for name in ("dropped", "too_small", "licences")}
        print_rows({"windows": windows, **told, "shards": shards}, as_json)


@app.command(epilog="Example: glocal model pretrain --data pool --out run --steps 2000")
def pretrain(
    data: Data,
    out: Annotated[Path, typer.Option(help="Folder of the run; an unfinished run goes on.")],
    size: Annotated[Size, typer.Option(help="Architecture.")] = Size.nano,
    steps: Annotated[int, typer.Option(min=1, help="Updates; the learning rate ends there.")] = (
        10_000
    ),
    batch: Annotated[int, typer.Option(min=1, help="Windows per step, of all processes.")] = 64,
    rate: Annotated[float, typer.Option(min=0.0, help="Learning rate of a batch of 256.")] = 3e-4,
    seed: Annotated[int, typer.Option(min=0, help="Seed of every random draw.")] = 0,
    hours: Annotated[
        float | None, typer.Option(min=0, help="Stop after this time; the same command goes on.")
    ] = None,
    start: Annotated[
        str | None, typer.Option(help="Weights to begin with: a packaged name, or a folder.")
    ] = None,
    side: Side = 64,
    as_json: Json = False,
) -> None:
    """Train a model to repaint hidden parts of images, its own and those of other sensors.

    One CPU or GPU as it is; several, with packed data only: torchrun --nproc-per-node 2
    -m glocal model pretrain ...
    Ctrl-C finishes the step and writes a checkpoint.
    """
    with readable_errors():
        training = PretrainConfig(
            steps=steps, batch=batch, base_rate=rate, warmup=min(500, steps // 20), seed=seed
        )
        recipe = Recipe(encoder=CONFIGS[size](), objective=OBJECTIVE, training=training)
        # several processes must not pack the same folder at once
        several = int(os.environ.get("WORLD_SIZE", "1")) > 1
        pool = Pool(data) if several else open_pool(data, out / "pool", side=side)
        options = RunOptions(max_hours=hours, card={"origins": pool.origins})
        with progress_bar() as report:
            outcome = train(recipe, pool, out, options=options, start=start, progress=report)
        if outcome.first:
            rows = {**asdict(outcome), "weights": str(outcome.weights)}
            del rows["first"]  # of several processes only the first prints
            print_rows(rows, as_json)


@app.command(epilog="Example: glocal model embed image.tif --out vectors.parquet")
def embed(
    images: Annotated[list[Path], typer.Argument(help="Rasters, folders or Zarr stores.")],
    out: Annotated[Path, typer.Option(help="Table to write: .parquet or .npz.")],
    weights: Annotated[str, typer.Option(help="Name of packaged weights, or a folder.")] = "nano",
    side: Side = 64,
    as_json: Json = False,
) -> None:
    """Turn images into vectors, one per window. The name of a file tells its sensor."""
    with readable_errors():
        found = embed_images(images, Encoder.from_pretrained(weights), side=side)
        write_vectors(out, found)
        count, width = found["vectors"].shape
        print_rows({"windows": count, "width": width, "out": str(out)}, as_json)


app.registered_commands += tasks.registered_commands
