"""Captures that a STAC item describes (1.0 or 1.1; assets beside it)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from glocal.core.interval import Interval
from glocal.errors import BadSourceError, UnknownSensorError
from glocal.io.raster import info
from glocal.train.data.captures import (
    WORDS,
    BandFile,
    Capture,
    PoolSettings,
    names_of,
    raster_reader,
    scaling,
    table_of,
)

MISSIONS = {"sentinel-2": "s2", "sentinel-1": "sar"}
SUFFIXES = (".tif", ".tiff", ".jp2")
NOT_DATA = {"thumbnail", "overview", "metadata", "visual"}


def captures(
    path: Path, item: Mapping[str, Any], settings: PoolSettings
) -> tuple[list[Capture], set[Path]]:
    """Return the capture of each sensor of an item, and the files that they use.

    An asset is data when its type or suffix is a raster's and no role says otherwise. Its
    sensor is told by a word of its key (``dsm``), else by the mission of the item, else by
    a word of the id or the collection; its bands by ``bands``, ``eo:bands`` or its key.
    """
    found: dict[str, list[BandFile]] = {}
    for key, asset in sorted(item.get("assets", {}).items()):
        kind, href = str(asset.get("type", "")), str(asset["href"])
        raster = any(word in kind for word in ("tiff", "jp2")) or href.endswith(SUFFIXES)
        if raster and not NOT_DATA & set(asset.get("roles", ())):
            short = _sensor(path, item, key)
            found.setdefault(short, []).extend(_bands(path, key, asset, short))
    properties = item.get("properties", {})
    stated = settings.licence != "not stated"
    licence = settings.licence if stated else str(properties.get("license", settings.licence))
    start, stop = (
        str(properties.get("datetime") or properties.get(name) or "")
        for name in ("start_datetime", "end_datetime")
    )
    result = [
        Capture(
            name=f"{item.get('id', path.stem)}/{short}",
            sensor=short,
            bands=tuple(_once(path, bands)),
            interval=Interval.parse(f"{start[:10]}/{stop[:10]}") if start and stop else None,
            origin=settings.origin,
            licence=licence,
        )
        for short, bands in sorted(found.items())
        if bands
    ]
    return result, {band.path.resolve() for bands in found.values() for band in bands}


def _sensor(path: Path, item: Mapping[str, Any], key: str) -> str:
    properties = item.get("properties", {})
    mission = str(properties.get("constellation") or properties.get("platform") or "").lower()
    missions = [short for name, short in MISSIONS.items() if mission.startswith(name)]
    names = (key, *missions, item.get("id", ""), item.get("collection", "") or "")
    for name in names:
        words = {WORDS[w] for w in re.split(r"[^a-z0-9]+", str(name).lower()) if w in WORDS}
        if len(words) == 1:
            return words.pop()
    raise BadSourceError(
        f"{path}: the sensor of asset {key!r} is not told; set properties.constellation to "
        "sentinel-1 or sentinel-2, or use rgb or dsm as a word of the asset's key"
    )


def _bands(path: Path, key: str, asset: Mapping[str, Any], short: str) -> Iterator[BandFile]:
    href = str(asset["href"])
    if "://" in href:
        raise BadSourceError(
            f"{path}: asset {key!r} is at {href}; download it and set href to the local file"
        )
    file = path.parent / href
    header = info(file)
    described = list(asset.get("bands") or asset.get("eo:bands") or [])
    numbers = described if asset.get("bands") else list(asset.get("raster:bands") or [])
    for i, name in enumerate(_names(file, key, described, short, len(header.dtypes))):
        if not name:
            continue
        row = numbers[i] if i < len(numbers) else {}
        given = [row.get(f"raster:{key}", row.get(key)) for key in ("scale", "offset")]
        scale, offset = scaling(str(file), short, header.dtypes[i], *given)
        nodata = row.get("nodata", table_of(short).bands[0].nodata)
        yield BandFile(
            name=name,
            path=file,
            read=raster_reader(file, i + 1, None, () if nodata is None else (float(nodata),)),
            grid=header.grid,
            scale=scale,
            offset=offset,
        )


def _names(
    file: Path, key: str, described: list[Mapping[str, Any]], short: str, count: int
) -> tuple[str, ...]:
    """Return the band of each layer; layers that the sensor does not have are left out."""
    common = [one.get("eo:common_name", one.get("common_name", "")) for one in described]
    names = [one.get("name", "") for one in described] or [key]
    known = [
        _known(short, a) or _known(short, b) for a, b in zip(names, common or [""], strict=True)
    ]
    if any(known):
        return names_of(str(file), short, count, known)
    # a scene classification or a quality mask beside the bands is no band
    return names_of(str(file), short, count, ()) if count > 1 or short == "dsm" else ("",)


def _known(short: str, name: str) -> str:
    try:
        return table_of(short).band(name).name if name else ""
    except UnknownSensorError:
        return ""


def _once(path: Path, bands: list[BandFile]) -> Iterator[BandFile]:
    """Yield each band once; the finest file of several (10 m, 20 m) wins."""
    best: dict[str, BandFile] = {}
    for band in bands:
        other = best.get(band.name)
        if other is None or abs(band.grid.resolution.x) < abs(other.grid.resolution.x):
            best[band.name] = band
    yield from best.values()
