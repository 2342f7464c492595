"""A copy of an image without gaps, with intervals and with what each cell rests on."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from odc.geo.geobox import GeoBox

from glocal.core.legend import ClassDef, Legend
from glocal.core.sensor import Band
from glocal.io.atomic import write_json
from glocal.io.raster import write_cog, write_qml
from glocal.sources.images.fill import BASES, COVERAGE, Filling

COLOURS = ("ffffff", "2c7bb6", "7fcdbb", "fdae61", "d7191c")

BASIS = Legend(
    name="basis",
    classes=tuple(
        ClassDef(value=i, name=name.replace(" ", "_"), title=name.capitalize(), color=color)
        for i, (name, color) in enumerate(zip(BASES, COLOURS, strict=True))
    ),
)


def filling_report(filling: Filling | str, bands: tuple[Band, ...]) -> dict[str, Any]:
    """Return what ``filled.json`` says: how good the filled cells are, or why there are none."""
    if isinstance(filling, str):
        return {"available": False, "reason": filling}
    count = np.bincount(filling.basis.ravel(), minlength=len(BASES))
    return {
        "available": True,
        "method": "regression on other images, classes and neighbours, learned on clear cells "
        "under the scene's own clouds moved elsewhere; intervals by split conformal prediction",
        "interval": COVERAGE,
        "cells": dict(zip(BASES, count.tolist(), strict=True)),
        "held_out": [
            {"band": band.name, "unit": band.unit}
            | {name: round(x, 6) if np.isfinite(x) else None for name, x in asdict(score).items()}
            for band, score in zip(bands, filling.scores, strict=True)
        ],
        "note": "held_out is measured on blocks that nothing was fitted to; real clouds may hide "
        "ground unlike any that is clear",
    }


def write_filling(
    folder: Path,
    filling: Filling | str,
    bands: tuple[Band, ...],
    geobox: GeoBox,
    head: dict[str, Any],
    credit: str,
) -> list[Path]:
    """Write ``filled.json``; and image and half-widths in the bands' units (NaN: unknown), basis.

    ``head`` is what the report says before what this file knows.
    """
    files = [folder / "filled.json"]
    told = {"type": "glocal-filled-image", **head, **filling_report(filling, bands)}
    write_json(files[0], told)
    if isinstance(filling, str):
        return files
    names = ("filled_image.tif", "filled_half_width.tif", "filled_basis.tif", "filled_basis.qml")
    image, half, basis, style = (folder / name for name in names)
    write = partial(write_cog, geobox=geobox, copyright=credit)
    layers = partial(
        write, nodata=np.nan, band_names=[one.name for one in bands], categorical=False
    )
    text = "image with hidden cells filled; a proposal, not reviewed"
    layers(image, filling.values, description=text)
    text = f"half of the {COVERAGE:.0%} interval of filled cells; not a number where seen"
    layers(half, filling.half_width, description=text)
    text = "; ".join(f"{i} {name}" for i, name in enumerate(BASES))
    write(basis, filling.basis, band_names=("basis",), colors=BASIS, description=text)
    write_qml(style, BASIS)
    return [*files, image, half, basis, style]
