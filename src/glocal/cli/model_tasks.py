"""``glocal model classify``, ``segment``, ``remove-clouds``, ``sharpen``: the encoder at work."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from glocal.cli.shell import Json, print_rows, readable_errors, stdout
from glocal.core.interval import Interval
from glocal.errors import ConfigError
from glocal.train.data.rasters import Rasters
from glocal.train.tasks import segment
from glocal.train.tasks.classification import classify as scenes
from glocal.train.tasks.clouds import files as clouds
from glocal.train.tasks.dense import Settings
from glocal.train.tasks.sharpening.image import sharpen_image
from glocal.train.tasks.sharpening.network import FitConfig
from msgfm import Encoder

app = typer.Typer()

TUNING = Settings(batch=32, rate=1e-3, encoder_rate=2e-4)
"""How an encoder is fine-tuned to classes of pictures."""

Out = Annotated[Path, typer.Option(help="GeoTIFF to write.")]
Weights = Annotated[str, typer.Option(help="Name of packaged weights, or a folder.")]
Steps = Annotated[int, typer.Option(min=1, help="Steps of learning.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of every random draw.")]
SENTINEL2 = typer.Option(help="Sentinel-2: SAFE, folder of band files or stacked raster.")
Sar = Annotated[Path | None, typer.Option(help="Sentinel-1: VV and VH, dB or linear power.")]
SarBands = Annotated[
    str | None, typer.Option(help="Bands of --sar in its order, as VV,VH, if the file names none.")
]
Bands = Annotated[
    str | None,
    typer.Option(help="Sentinel-2 bands in the order of the file, as B02,B03, if it names none."),
]
Unit = Annotated[
    str | None, typer.Option(help="Numbers of Sentinel-2: DN or 1 (reflectance), if not clear.")
]
Offset = Annotated[
    float | None,
    typer.Option(help="Added to Sentinel-2 DN without metadata; -1000 since baseline 04.00."),
]
When = Annotated[
    str | None, typer.Option("--interval", help="Date of the images, as 2017-02-16, if not named.")
]
Fitted = Annotated[
    Path | None, typer.Option(help="Network fitted before; else one is fitted to this image.")
]
FineTune = Annotated[bool, typer.Option("--fine-tune", help="Learn the encoder too; slow.")]


@app.command(epilog="Example: glocal model classify pictures --table places.csv")
def classify(
    images: Annotated[Path, typer.Argument(help="Folder or zip: a folder of JPEG or PNG a class.")],
    table: Annotated[
        Path | None,
        typer.Option(
            help="CSV of names with longitude and latitude, so that neighbours stay in one part; "
            "or with part (train, val, test)."
        ),
    ] = None,
    gsd_m: Annotated[
        float | None, typer.Option(min=0.01, help="Metres per pixel; 0.2 when not given.")
    ] = None,
    weights: Weights = "nano",
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each method.")] = 3,
    limit: Annotated[int | None, typer.Option(min=3, help="Pictures per class.")] = None,
    tune: Annotated[
        int | None, typer.Option(min=1, help="Fine-tune the encoder too, for so many steps; slow.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure how well classes of pictures can be told apart, beside simpler methods."""
    with readable_errors():
        found = scenes.run(
            images,
            Encoder.from_pretrained(weights),
            table=table,
            gsd_m=gsd_m,
            seeds=seeds,
            limit=limit,
            tuning=replace(TUNING, steps=tune) if tune else None,
            note=lambda text: typer.echo(text, err=True),
        )
        if as_json:
            print_rows(found, as_json)
        else:
            _print_methods(found)


@app.command(
    "segment", epilog="Example: glocal model segment --s2 s2.tif --labels l.tif --out m.tif"
)
def map_classes(
    labels: Annotated[
        Path, typer.Option(help="Raster of class codes 1 to 255 on a part of the place, 0 unknown.")
    ],
    out: Out,
    s2: Annotated[Path | None, SENTINEL2] = None,
    sar: Sar = None,
    rgb: Annotated[Path | None, typer.Option(help="Colour image: red, green, blue.")] = None,
    dsm: Annotated[Path | None, typer.Option(help="Surface heights in metres.")] = None,
    weights: Weights = "nano",
    fine_tune: FineTune = False,
    steps: Steps = 300,
    seed: Seed = 0,
    interval: When = None,
    bands: Bands = None,
    sar_bands: SarBands = None,
    unit: Unit = None,
    offset: Offset = None,
    as_json: Json = False,
) -> None:
    """Learn classes from a raster that labels a part of a place, and map the whole of it.

    The image given first of --s2, --rgb, --sar, --dsm sets the pixels of the map.
    """
    with readable_errors():
        images = _images(s2, sar, interval, bands, sar_bands, unit, offset, rgb=rgb, dsm=dsm)
        settings = Settings(steps=steps, seed=seed)
        found = segment.run(
            images, labels, out, weights=weights, frozen=not fine_tune, settings=settings
        )
        told: dict[str, Any] = {"out": str(out), "scores": str(out.with_suffix(".json"))}
        if found is None:
            told["note"] = "all labels lie in one tile of 128 px: none is left to score"
        else:
            told |= {"accuracy": found.accuracy, "mean_iou": found.miou}
        print_rows(told, as_json)


@app.command(
    epilog="Example: glocal model remove-clouds --s2 scene.SAFE --sar s1_VV_VH.tif --out clear.tif"
)
def remove_clouds(
    s2: Annotated[Path, SENTINEL2],
    out: Out,
    sar: Sar = None,
    cloud: Annotated[
        Path | None,
        typer.Option(help="Raster that is not 0 under cloud and shadow; else the product's SCL."),
    ] = None,
    model: Fitted = None,
    weights: Weights = "nano",
    steps: Steps = 300,
    seed: Seed = 0,
    interval: When = None,
    bands: Bands = None,
    sar_bands: SarBands = None,
    unit: Unit = None,
    offset: Offset = None,
    as_json: Json = False,
) -> None:
    """Estimate what a Sentinel-2 image would show without its clouds, by what was best where known.

    Pixels that were seen stay as they are. Without --sar little is known under a cloud.
    """
    with readable_errors():
        images = _images(s2, sar, interval, bands, sar_bands, unit, offset)
        found = clouds.run(
            images,
            out,
            cloud=cloud,
            model=model,
            weights=weights,
            settings=Settings(steps=steps, seed=seed),
        )
        print_rows({"out": str(out), **found}, as_json)


@app.command(epilog="Example: glocal model sharpen scene.SAFE --out sharp.tif")
def sharpen(
    fine: Annotated[
        Path, typer.Argument(help="Sentinel-2 with small pixels, or a panchromatic band.")
    ],
    out: Out,
    coarse: Annotated[
        Path | None,
        typer.Option(help="Sentinel-2 bands or 8-bit colour of larger pixels; else as FINE."),
    ] = None,
    model: Fitted = None,
    weights: Weights = "nano",
    steps: Steps = 300,
    seed: Seed = 0,
    bands: Bands = None,
    fine_bands: Annotated[str | None, typer.Option(help="The same of FINE.")] = None,
    unit: Unit = None,
    offset: Offset = None,
    as_json: Json = False,
) -> None:
    """Bring coarse bands to the pixel size of fine ones, by what was best on held-out parts.

    --bands are those of --coarse.
    """
    with readable_errors():
        found = sharpen_image(
            fine,
            coarse or fine,
            out,
            weights=weights,
            model=model,
            bands=_names(bands),
            fine_bands=_names(fine_bands),
            unit=unit,
            offset=offset,
            config=FitConfig(steps=steps, seed=seed),
        )
        print_rows({"out": str(out), **found}, as_json)


def _images(
    s2: Path | None,
    sar: Path | None,
    interval: str | None,
    bands: str | None,
    sar_bands: str | None,
    unit: str | None,
    offset: float | None,
    **others: Path | None,
) -> Rasters:
    try:
        when = Interval.parse(interval) if interval else None
    except ValueError as error:
        raise ConfigError(f"--interval: {error}") from error
    return Rasters(
        s2=s2,
        sar=sar,
        interval=when,
        bands=_names(bands),
        sar_bands=_names(sar_bands),
        unit=unit,
        offset=offset,
        **others,
    )


def _names(text: str | None) -> tuple[str, ...] | None:
    return tuple(one.strip() for one in text.split(",")) if text else None


def _print_methods(found: dict[str, Any]) -> None:
    table = Table("method", "accuracy", "95 % interval", "runs", header_style="bold")
    for name, one in found["methods"].items():
        interval = one["interval"]
        between = "-" if interval is None else f"{interval[0]:.3f} to {interval[1]:.3f}"
        table.add_row(name, f"{one['accuracy']:.3f}", between, str(len(one["runs"])))
    stdout().print(table)
    for part, count in found["counts"].items():
        typer.echo(f"{part}: {count['pictures']} pictures in {count['blocks']} places")
    for note in found["notes"]:
        typer.echo(f"Note: {note}")
