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
            {
                "band": band.name,
                "unit": band.unit,
                "n": score.n,
                **{
                    key: round(value, 6) if np.isfinite(value) else None
                    for key, value in asdict(score).items()
                    if key != "n"
                },
            }
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
    write = partial(write_cog, geobox=geobox, copyright=credit)
    for name, values, text in (
        (
            "filled_image",
            filling.values,
            "image with hidden cells filled; a proposal, not reviewed",
        ),
        (
            "filled_half_width",
            filling.half_width,
            f"half of the {COVERAGE:.0%} interval of filled cells; not a number where seen",
        ),
    ):
        files.append(folder / f"{name}.tif")
        names = tuple(band.name for band in bands)
        write(
            files[-1],
            values,
            nodata=float("nan"),
            band_names=names,
            description=text,
            categorical=False,
        )
    files += [folder / "filled_basis.tif", folder / "filled_basis.qml"]
    meaning = "; ".join(f"{i} {name}" for i, name in enumerate(BASES))
    write(files[-2], filling.basis, band_names=("basis",), colors=BASIS, description=meaning)
    write_qml(files[-1], BASIS)
    return files
