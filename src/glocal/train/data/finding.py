"""Which captures a folder holds: rasters, STAC items, Zarr stores; packed shards beside them.

What a raster shows is told by, in this order:

1. the first rule of the nearest ``pool.toml`` at or above it whose ``match`` fits its path::

       origin = "my-survey"          # default: the name of the folder that was given
       licence = "CC-BY-4.0"         # default: "not stated"

       [[files]]
       match = "optical/*.tif"       # relative to the folder of pool.toml
       sensor = "s2"                 # rgb, s2, sar or dsm; "" leaves the files out
       bands = ["B02", "nir"]        # names of the layers; default: by their number
       scale = 0.0001                # value = stored * scale + offset
       offset = -0.1                 # Sentinel-2 since baseline 04.00
       nodata = 0                    # besides what the file says
       date = "2020-05-17"           # default: the date in the name
       crs = "EPSG:32633"            # for files that do not say
       power = true                  # radar in linear power, not decibels

2. a word of its name, then of the folders above it: rgb, ortho, s2, sentinel2, s1,
   sentinel1, sar, dsm, dem.

Whatever neither tells is refused.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from glocal.core.interval import Interval
from glocal.errors import BadSourceError, SourceUnavailableError
from glocal.io.raster import info
from glocal.train.data import finding_stac, finding_zarr
from glocal.train.data.captures import (
    WORDS,
    BandFile,
    Capture,
    PoolSettings,
    date_in,
    names_of,
    raster_reader,
    scaling,
    table_of,
)

RASTERS = (".tif", ".tiff", ".jp2", ".img")
KEYS = {"match", "sensor", "bands", "scale", "offset", "nodata", "date", "crs", "power"}


def captures(root: Path) -> Iterator[Capture]:
    """Yield what a file or folder holds, in the order of paths; shards are not looked at.

    Raises
    ------
    SourceUnavailableError
        ``root`` does not exist, or a file is truncated.
    BadSourceError
        A raster, an item or a store shows something that nothing tells, or a rule is wrong; an
        asset is not a local file.
    UnknownSensorError
        A band is named that the sensor does not have.
    GridMismatchError
        The place of a store is not told.
    MissingExtraError
        A Zarr store needs the extra ``zarr``.
    """
    if not root.exists():
        raise SourceUnavailableError(f"{root} does not exist; check the path of the data")
    below = [root, *sorted(root.rglob("*"))] if root.is_dir() else [root]
    # a Zarr store is read as a whole: nothing inside it is a store, an item or a raster
    marks = [one.parent for one in below if one.name in ("zarr.json", ".zgroup")]
    stores = sorted({one for one in marks if not set(one.parents) & set(marks)})
    inside = set(stores)
    plain = [one for one in below if one.is_file() and not inside & set(one.parents)]
    items = [(one, content) for one in plain if (content := _item(one)) is not None]
    rasters = [one for one in plain if one.suffix.lower() in RASTERS]
    for store in stores:
        yield from finding_zarr.captures(store, settings_at(store, root))
    used: set[Path] = set()
    for path, item in items:
        found, files = finding_stac.captures(path, item, settings_at(path, root))
        used |= files
        yield from found
    for path in rasters:
        if path.resolve() not in used:
            yield from _raster(path, settings_at(path, root), root)


def shards_in(root: Path) -> list[Path]:
    """Return the packed shards at or below ``root``."""
    return sorted(root.rglob("*.npz")) if root.is_dir() else [root] * (root.suffix == ".npz")


def _item(path: Path) -> dict[str, Any] | None:
    """Return the STAC item in a JSON file, None for other JSON."""
    if path.suffix.lower() != ".json":
        return None
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise SourceUnavailableError(f"can't read {path}: {error}; is it truncated?") from error
    item = isinstance(content, dict) and content.get("type") == "Feature"
    return content if item and "stac_version" in content else None


def settings_at(path: Path, root: Path) -> PoolSettings:
    """Return the settings of the nearest ``pool.toml`` between a path and ``root``."""
    folder = path if path.is_dir() else path.parent
    top = root if root.is_dir() else root.parent
    for one in (folder, *folder.parents):
        if (one / "pool.toml").is_file():
            return _parsed(one / "pool.toml", top.resolve().name)
        if one == top:
            break
    return PoolSettings(folder=top, origin=top.resolve().name, licence="not stated")


def _parsed(path: Path, name: str) -> PoolSettings:
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise SourceUnavailableError(f"can't read {path}: {error}") from error
    rules = content.get("files", [])
    unknown = set(content) - {"origin", "licence", "files"}
    unknown |= {key for rule in rules for key in set(rule) - KEYS}
    if unknown or not all("match" in rule for rule in rules):
        raise BadSourceError(
            f"{path}: each [[files]] needs match, and {sorted(unknown) or 'nothing else'} is not "
            f"known; keys are origin, licence and files with {', '.join(sorted(KEYS))}"
        )
    return PoolSettings(
        folder=path.parent,
        origin=str(content.get("origin", name)),
        licence=str(content.get("licence", "not stated")),
        rules=tuple(rules),
    )


def sensor_in(path: Path, root: Path) -> str:
    """Return the sensor that a word of the name, or of a folder above it, tells."""
    for part in (path.stem, *(one.name for one in path.parents if one.is_relative_to(root))):
        words = re.split(r"[^a-z0-9]+", part.lower())
        found = {WORDS[word] for word in words if word in WORDS}
        if len(found) == 1:
            return found.pop()
        if found:
            break
    raise BadSourceError(
        f"{path}: the sensor is not told by its name (a word like rgb, s2, sar or dsm, only one); "
        "write a pool.toml beside it with [[files]], match and sensor"
    )


def _raster(path: Path, settings: PoolSettings, root: Path) -> Iterator[Capture]:
    rule = settings.rule(path)
    if rule.get("sensor") == "":
        return
    short = rule.get("sensor") or sensor_in(path, root if root.is_dir() else root.parent)
    header = info(path, rule.get("crs"))
    layers = names_of(str(path), short, len(header.dtypes), rule.get("bands", ()))
    nodata = _nodata(short, header.dtypes[0], rule)
    given = rule.get("scale"), rule.get("offset")
    scale, offset = scaling(str(path), short, header.dtypes[0], *given)
    bands = tuple(
        BandFile(
            name=name,
            path=path,
            read=raster_reader(path, i, rule.get("crs"), nodata),
            grid=header.grid,
            scale=scale,
            offset=offset,
        )
        for i, name in enumerate(layers, start=1)
        if name
    )
    when = Interval.parse(str(rule["date"])) if "date" in rule else date_in(path.stem)
    yield Capture(
        name=path.relative_to(settings.folder).as_posix(),
        sensor=short,
        bands=bands,
        interval=when,
        origin=settings.origin,
        licence=settings.licence,
        power=bool(rule.get("power", False)),
    )


def _nodata(short: str, dtype: str, rule: Mapping[str, Any]) -> tuple[float, ...]:
    """Return the numbers that mean no data besides what the file says."""
    usual = table_of(short).bands[0].nodata
    whole = () if usual is None or "float" in dtype else (usual,)
    return (*whole, float(rule["nodata"])) if "nodata" in rule else whole
