"""A copy of an image without gaps, with intervals and with what each cell rests on."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from odc.geo.geobox import GeoBox

from glocal.core.legend import ClassDef, Legend
from glocal.core.sensor import Band
from glocal.io.raster import write_cog, write_qml
from glocal.sources.images.fill import BASES, COVERAGE, BandScore, Filling

__all__ = ["filling_report", "write_filling"]

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
            {"band": band.name, "unit": band.unit, **_rounded(score)}
            for band, score in zip(bands, filling.scores, strict=True)
        ],
        "note": "held_out is measured on blocks that nothing was fitted to; real clouds may hide "
        "ground unlike any that is clear",
    }


def _rounded(score: BandScore) -> dict[str, Any]:
    values = asdict(score)
    return {
        key: value if key == "n" else round(value, 6) if np.isfinite(value) else None
        for key, value in values.items()
    }


def write_filling(
    folder: Path, filling: Filling, bands: tuple[Band, ...], geobox: GeoBox, credit: str
) -> list[Path]:
    """Write image and half-widths in the bands' units (NaN: unknown), and the basis."""
    names = tuple(band.name for band in bands)
    layers = {
        "filled_image": (
            filling.values,
            "image with hidden cells filled; a proposal, not reviewed",
        ),
        "filled_half_width": (
            filling.half_width,
            f"half of the {COVERAGE:.0%} interval of filled cells; not a number where seen",
        ),
    }
    files = []
    for name, (values, text) in layers.items():
        files.append(folder / f"{name}.tif")
        write_cog(
            files[-1],
            values,
            geobox,
            nodata=float("nan"),
            band_names=names,
            copyright=credit,
            description=text,
            categorical=False,
        )
    files += [folder / "filled_basis.tif", folder / "filled_basis.qml"]
    write_cog(
        files[-2],
        filling.basis,
        geobox,
        band_names=("basis",),
        colors=BASIS,
        copyright=credit,
        description="; ".join(f"{i} {name}" for i, name in enumerate(BASES)),
    )
    write_qml(files[-1], BASIS)
    return files
