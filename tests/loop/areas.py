"""Small made-up areas with files as a user would have them: image, map, OSM extract, points.

The ground truth is a patchwork of parcels; image, map and extract see it each in its own
way and with its own errors, drawn from a seed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import numpy as np
import pyproj
import rasterio
import shapely
import yaml
from click.testing import Result
from numpy.typing import NDArray
from rasterio.features import shapes
from rasterio.transform import Affine, from_origin
from typer.testing import CliRunner

from glocal.cli.main import app

CRS = "EPSG:32633"
LEFT, TOP, CELL = 400_000, 5_800_000, 10

CLASSES = (10, 30, 40, 50, 80)
NAMES = {10: "tree", 30: "grass", 40: "crop", 50: "built", 80: "water"}
TAGS = {
    10: ("natural", "wood"),
    30: ("landuse", "meadow"),
    40: ("landuse", "farmland"),
    50: ("landuse", "residential"),
    80: ("natural", "water"),
}
BANDS = ("B02", "B03", "B04", "B08", "B11", "B12")
SPECTRA = {
    10: (0.025, 0.045, 0.03, 0.30, 0.14, 0.06),
    30: (0.04, 0.08, 0.06, 0.36, 0.24, 0.13),
    40: (0.06, 0.09, 0.11, 0.24, 0.30, 0.22),
    50: (0.10, 0.11, 0.12, 0.18, 0.20, 0.18),
    80: (0.05, 0.05, 0.03, 0.02, 0.01, 0.01),
}
USER = "Erika Musterfrau"
"""Stands in the extract as contributor; must not be in any output."""


@dataclass(frozen=True)
class Ground:
    """What is really there."""

    parcel: NDArray[np.int64]
    """Number of the parcel of each cell, shape (H, W), from 0."""

    value: NDArray[np.int64]
    """Class code of each parcel."""

    @property
    def cells(self) -> NDArray[np.uint8]:
        """Class code of each cell."""
        return self.value[self.parcel].astype(np.uint8)


def make_ground(size: int, seed: int) -> Ground:
    """Return a patchwork of parcels, each about 12 cells wide; every class occurs."""
    rng = np.random.default_rng([seed, 0])
    parcels = max((size // 12) ** 2, len(CLASSES))
    centres = rng.uniform(0, size, (parcels, 2))
    rows, columns = np.indices((size, size)) + 0.5
    distance = (rows[..., None] - centres[:, 0]) ** 2 + (columns[..., None] - centres[:, 1]) ** 2
    value = rng.permutation(np.resize(CLASSES, parcels))
    return Ground(parcel=distance.argmin(axis=-1), value=value)


def some_wrong(value: NDArray[Any], share: float, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return class codes of which about ``share`` were replaced by another class."""
    step = rng.integers(1, len(CLASSES), value.shape) * (rng.random(value.shape) < share)
    return np.array(CLASSES)[(np.searchsorted(CLASSES, value) + step) % len(CLASSES)]


def write_tif(
    path: Path,
    values: NDArray[Any],
    *,
    transform: Affine | None = None,
    crs: str | None = CRS,
    nodata: float | None = None,
    names: tuple[str, ...] = (),
) -> Path:
    """Write an ordinary GeoTIFF, bands first; ``crs=None`` leaves the CRS out."""
    stack = values[None] if values.ndim == 2 else values
    profile = {
        "driver": "GTiff",
        "dtype": stack.dtype,
        "count": stack.shape[0],
        "height": stack.shape[1],
        "width": stack.shape[2],
        "transform": transform or from_origin(LEFT, TOP, CELL, CELL),
        "nodata": nodata,
        "compress": "deflate",
    }
    with rasterio.open(path, "w", **profile, **({"crs": crs} if crs else {})) as target:
        target.write(stack)
        for number, name in enumerate(names, 1):
            target.set_band_description(number, name)
    return path


def image_of(ground: Ground, rng: np.random.Generator) -> NDArray[np.uint16]:
    """Return Sentinel-2-like numbers (6, H, W) of the ground, with noise, no offset.

    Parcels of one class differ, as fields do, so that classes overlap.
    """
    reflectance = np.array([SPECTRA[one] for one in CLASSES])[
        np.searchsorted(CLASSES, ground.value)
    ]
    parcels = reflectance * rng.normal(1, 0.3, reflectance.shape).clip(0.3, 1.7)
    noise = rng.normal(1, 0.12, (*ground.parcel.shape, len(BANDS)))
    numbers = np.clip(parcels[ground.parcel] * noise, 0.001, 1) * 10000
    return np.moveaxis(numbers, -1, 0).round().astype(np.uint16)


def write_osm(
    path: Path, polygons: list[Any], value: NDArray[np.int64], *, crs: str = CRS, extra: str = ""
) -> Path:
    """Write closed ways, one per polygon, tagged by class; versions, dates and a user too."""
    to_degrees = pyproj.Transformer.from_crs(crs, "EPSG:4326", always_xy=True).transform
    meta = f'timestamp="2020-05-01T10:00:00Z" user={quoteattr(USER)} uid="4711" changeset="9"'
    nodes, ways = [], []
    for number, (polygon, code) in enumerate(zip(polygons, value.tolist(), strict=True), 1):
        x, y = to_degrees(*np.array(polygon.exterior.coords)[:-1].T)
        first = len(nodes) + 1
        nodes += [
            f'<node id="{first + i}" version="1" {meta} lat="{b:.7f}" lon="{a:.7f}"/>'
            for i, (a, b) in enumerate(zip(x, y, strict=True))
        ]
        refs = [*range(first, len(nodes) + 1), first]
        key, text = TAGS[code]
        ways.append(
            f'<way id="{number}" version="{2 + number % 3}" {meta}>'
            + "".join(f'<nd ref="{ref}"/>' for ref in refs)
            + f'<tag k="{key}" v="{text}"/><tag k="name" v="Parcel {number}"/>{extra}</way>'
        )
    body = "\n".join([*nodes, *ways])
    path.write_text(
        f'<?xml version="1.0"?>\n<osm version="0.6" generator="test">\n{body}\n</osm>\n'
    )
    return path


def parcels_of(ground: Ground) -> list[Any]:
    """Return the outline of each parcel (its largest part), in the order of ``value``."""
    transform = from_origin(LEFT, TOP, CELL, CELL)
    best: dict[int, Any] = {}
    for polygon, number in shapes(ground.parcel.astype(np.int32), transform=transform):
        one = shapely.geometry.shape(polygon)
        if int(number) not in best or one.area > best[int(number)].area:
            best[int(number)] = one
    return [best[number] for number in range(len(ground.value)) if number in best]


def write_points(path: Path, cells: NDArray[np.uint8], number: int, seed: int) -> Path:
    """Write a simple random sample of cells with their true class as ``id,x,y,class``."""
    rng = np.random.default_rng([seed, 3])
    chosen = np.sort(rng.choice(cells.size, number, replace=False))
    rows, columns = np.divmod(chosen, cells.shape[1])
    x, y = LEFT + (columns + 0.5) * CELL, TOP - (rows + 0.5) * CELL
    said = [NAMES[int(one)] for one in cells[rows, columns]]
    lines = [f"p{i},{a},{b},{c}" for i, (a, b, c) in enumerate(zip(x, y, said, strict=True))]
    path.write_text("\n".join(["id,x,y,class", *lines]) + "\n")
    return path


def make_area(folder: Path, size: int = 96, seed: int = 0) -> Path:
    """Write all files of a small area into ``folder``; return the path of its ``area.yaml``.

    Sources: ``image`` (6 bands), ``rules``, ``osm`` (40 % of the parcels, 15 % wrong tags),
    ``map`` (10 % of the parcels wrong, 3 % of the cells), ``field`` (40 points, 10 % wrong),
    ``model``; 60 anchors.
    """
    folder.mkdir(parents=True, exist_ok=True)
    ground, rng = make_ground(size, seed), np.random.default_rng([seed, 1])
    write_tif(folder / "image.tif", image_of(ground, rng), nodata=65535, names=BANDS)
    mapped = some_wrong(some_wrong(ground.value, 0.1, rng)[ground.parcel], 0.03, rng)
    write_tif(folder / "map.tif", mapped.astype(np.uint8), nodata=0)
    outlines = parcels_of(ground)
    present = np.array([one in ground.parcel for one in range(len(ground.value))])
    tagged = some_wrong(ground.value[present], 0.15, rng)
    drawn = np.flatnonzero(rng.random(len(outlines)) < 0.4)
    write_osm(folder / "extract.osm", [outlines[i] for i in drawn], tagged[drawn])
    write_points(folder / "points.csv", ground.cells, 60, seed)
    seen = some_wrong(ground.cells, 0.1, rng).astype(np.uint8)
    write_points(folder / "field.csv", seen, 40, seed + 1)
    return write_yaml(folder / "area.yaml", settings(size, seed))


def settings(size: int, seed: int) -> dict[str, Any]:
    """Return the content of ``area.yaml`` for `make_area`."""
    return {
        "name": "parcels",
        "grid": {
            "bbox": [LEFT, TOP - size * CELL, LEFT + size * CELL, TOP],
            "crs": CRS,
            "resolution": CELL,
        },
        "date": "2020-06-15",
        "classes": list(CLASSES),
        "seed": seed,
        "rounds": 2,
        "block": 24,
        "folds": 2,
        "sources": [
            {"name": "image", "kind": "sentinel2", "path": "image.tif", "date": "2020-06-15"},
            {"name": "rules", "kind": "rules", "of": "image"},
            {"name": "osm", "kind": "osm", "path": "extract.osm", "date": "2020-06-01"},
            {
                "name": "map",
                "kind": "landcover",
                "path": "map.tif",
                "legend": "worldcover",
                "date": 2020,
                "licence": "CC0-1.0",
            },
            {
                "name": "field",
                "kind": "insitu",
                "path": "field.csv",
                "crs": CRS,
                "date": "2020-06-10",
                "licence": "CC0-1.0",
            },
            {"name": "model", "kind": "predicted", "of": ["image"]},
        ],
        "anchors": {"path": "points.csv", "crs": CRS, "position_sd_m": 1, "licence": "CC0-1.0"},
    }


def glocal(*words: object) -> Result:
    """Call the command line as a user would."""
    return CliRunner().invoke(app, [str(one) for one in words])


def run_area(area: Path, out: Path, *options: object) -> dict[str, Any]:
    """Run an area; return its metrics, or fail with what the command said."""
    result = glocal("run", area, "--out", out, "--json", *options)
    assert result.exit_code == 0, result.output
    metrics: dict[str, Any] = json.loads(result.stdout)
    return metrics


def write_yaml(path: Path, values: dict[str, Any]) -> Path:
    """Write a configuration."""
    path.write_text(yaml.safe_dump(values, sort_keys=False, allow_unicode=True))
    return path
