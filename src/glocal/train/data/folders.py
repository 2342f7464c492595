"""Users' folders as windows: captures paired by place and date, cut, and packed into shards.

Nothing is held in whole: captures are described first, then read tile by tile.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pyproj.exceptions import ProjError

from glocal.core.chip import Chip
from glocal.errors import BadSourceError, GridMismatchError, RunError
from glocal.io.atomic import replacing_folder
from glocal.train.data.captures import Capture, chip_on, gsd_m
from glocal.train.data.finding import captures, shards_in
from glocal.train.data.pool import Pool
from glocal.train.data.shards import (
    SENSORS,
    Crop,
    Shard,
    band_names,
    coverage,
    crops,
    read_shard,
    sensor_set,
    shard_of,
    write_shard,
)

TILE = 8
"""Windows are cut from tiles of so many by so many of them."""

COARSER = 4.0
"""Sensors are paired when the ground size of one pixel differs by no more than this factor."""

COVERED = 0.5
"""Least share of valid pixels for which a sensor is part of a window."""

BUFFER = 200_000_000
"""Bytes of windows of one set of sensors that are collected before a shard is written."""

Pair = tuple[Capture, ...]
"""Captures of different sensors; the first one gives the grid."""


@dataclass(slots=True, kw_only=True)
class Packed:
    """What `pack` did; grows while it works."""

    windows: dict[tuple[str, ...], int] = field(default_factory=dict)
    """Set of sensors -> number of windows written."""

    dropped: int = 0
    """Windows in which no sensor had enough valid pixels."""

    too_small: list[str] = field(default_factory=list)
    """Captures smaller than one window."""

    licences: dict[str, str] = field(default_factory=dict)
    """Origin -> licence."""

    paths: list[Path] = field(default_factory=list)
    """The shards, in order."""


def pair(found: Sequence[Capture], *, max_days: float = 3.0, side: int = 64) -> list[Pair]:
    """Bring captures of different sensors together by place and date.

    Each capture of the first sensor that is there (in the order rgb, s2, sar, dsm) takes of
    each later sensor the capture nearest in time that overlaps it by at least half a
    window and whose pixels are at most four times larger or smaller. Heights fit every
    date; other captures without a date fit none. Captures that none took lead pairs of
    their own, so that each one is in some pair.

    Raises
    ------
    GridMismatchError
        Two CRS can't be brought together.
    """
    order = [one for name in SENSORS for one in found if one.sensor == name]
    # one row per capture of all that decides quickly which others may fit it
    never = float("nan")
    boxes = [one.grid.geographic_extent.boundingbox.bbox for one in order]
    facts: dict[str, NDArray[Any]] = {
        "box": np.array(boxes, float).reshape(-1, 4),
        "size": np.array([gsd_m(one.grid) for one in order]),
        "start": np.array([o.interval.start.timestamp() if o.interval else never for o in order]),
        "stop": np.array([o.interval.stop.timestamp() if o.interval else never for o in order]),
        "sensor": np.array([one.sensor for one in order], object),
    }
    taken: set[int] = set()
    pairs = []
    for i, first in enumerate(order):
        if i in taken:
            continue
        later = list(SENSORS)[list(SENSORS).index(first.sensor) + 1 :]
        near = [_nearest(order, facts, i, name, max_days, side) for name in later]
        group = [i, *(j for j in near if j is not None)]
        taken.update(group)
        pairs.append(tuple(order[j] for j in group))
    return pairs


def _nearest(
    order: Sequence[Capture],
    facts: Mapping[str, NDArray[Any]],
    i: int,
    sensor: str,
    max_days: float,
    side: int,
) -> int | None:
    """Return the capture of ``sensor`` that fits capture ``i`` best, if one does."""
    box, size = facts["box"], facts["size"]
    gap = np.maximum(facts["start"], facts["start"][i]) - np.minimum(
        facts["stop"], facts["stop"][i]
    )
    days = np.zeros(len(order)) if sensor == "dsm" else np.maximum(gap / 86400, 0)
    fits = (facts["sensor"] == sensor) & (days <= max_days)
    fits &= (size <= COARSER * size[i]) & (size >= size[i] / COARSER)
    fits &= (box[:, :2] < box[i, 2:]).all(1) & (box[:, 2:] > box[i, :2]).all(1)
    grid = order[i].grid
    cell = float(np.sqrt(abs(grid.resolution.x * grid.resolution.y)))
    least = (side * cell) ** 2 / 2
    shared = {j: _shared(grid, order[j].grid) for j in np.flatnonzero(fits).tolist()}
    enough = [j for j, area in shared.items() if area >= least]
    return min(enough, key=lambda j: (days[j], -shared[j]), default=None)


def _shared(grid: GeoBox, other: GeoBox) -> float:
    """Return the area that two grids share, in squared units of the first one's CRS."""
    try:
        outline = other.extent.to_crs(str(grid.crs))
        return float(outline.intersection(grid.extent).area)
    except (ProjError, ValueError) as error:
        raise GridMismatchError(
            f"{other.crs} can't be transformed to {grid.crs}: {error}; give both a common CRS"
        ) from error


def grid_of(group: Pair) -> GeoBox:
    """Return the grid of a pair: that of its first capture, at the finest pixel of all.

    Degrees become metres of the UTM zone, as their cells are no squares on the ground.
    """
    grid = group[0].grid
    finest = min(gsd_m(one.grid) for one in group)
    if grid.crs is not None and grid.crs.geographic:
        return grid.to_crs("utm").zoom_to(resolution=finest)
    times = gsd_m(grid) / finest
    # scales of projections differ a little: 2.001 is 2, which keeps the lattice
    whole = round(times) if abs(times - round(times)) < 0.02 * times else times
    return grid if whole == 1 else grid.zoom_out(1 / whole)


def windows(group: Pair, *, side: int = 64, summary: Packed | None = None) -> Iterator[Crop]:
    """Yield the windows of a pair, row by row, without overlap.

    Of each window those sensors are kept whose valid pixels make up half of it or more;
    windows without any are dropped and counted in ``summary``.
    """
    counts = summary if summary is not None else Packed()
    grid = grid_of(group)
    size = gsd_m(grid)
    height, width = (length // side * side for length in grid.shape)
    if not height or not width:
        counts.too_small += [one.name for one in group]
        return
    for top, left in product(range(0, height, TILE * side), range(0, width, TILE * side)):
        rows = slice(top, min(top + TILE * side, height))
        columns = slice(left, min(left + TILE * side, width))
        chips = {one.sensor: chip_on(one, grid[rows, columns]) for one in group}
        for values in _squares(chips, side):
            if not values:
                counts.dropped += 1
                continue
            kept = [one for one in group if one.sensor in values]
            origin = "+".join(sorted({one.origin for one in kept}))
            _note(counts, origin, " AND ".join(sorted({one.licence for one in kept})))
            yield Crop(
                values=values,
                gsd_m=dict.fromkeys(values, size),
                day={one.sensor: one.day for one in kept},
                origin=origin,
            )


def _squares(chips: Mapping[str, Chip], side: int) -> Iterator[dict[str, NDArray[np.float32]]]:
    """Yield for each square of a tile the sensors that cover it, perhaps none."""
    # every band of the sensor (C, H, W), NaN where invalid or absent
    arrays = {}
    for name, chip in chips.items():
        known = band_names(name)
        arrays[name] = np.full((len(known), *chip.values.shape[1:]), np.nan, np.float32)
        rows = [known.index(band) for band in chip.band_names]
        arrays[name][rows] = np.where(chip.valid, chip.values, np.nan)
    for squares in crops(arrays, side=side, stride=side):
        yield {k: one.copy() for k, one in squares.items() if coverage({k: one}) >= COVERED}


def pack(
    data: Sequence[Path],
    out: Path,
    *,
    side: int = 64,
    max_mb: float = 60.0,
    max_days: float = 3.0,
) -> Packed:
    """Write what files and folders hold as shards, one series per set of sensors.

    Shards among the data are repacked. What a raster shows is told as
    `glocal.train.data.finding` says; pairs are made as `pair` says. The same data gives the
    same files.

    Raises
    ------
    RunError
        ``out`` exists and is not empty.
    BadSourceError
        No window is left, an origin has two licences, or as `finding.captures` says.
    """
    if out.is_file() or (out.exists() and any(out.iterdir())):
        raise RunError(f"{out} is not empty; choose another folder, so that no shard is mixed in")
    summary = Packed()
    with replacing_folder(out) as folder:
        writer = _Writer(folder, max_mb, summary)
        roots = list(map(Path, data))
        for path in [path for root in roots for path in shards_in(root)]:
            writer.add(_of_shard(path, side, summary))
        found = [one for root in roots for one in captures(root)]
        for group in pair(found, max_days=max_days, side=side):
            writer.add(windows(group, side=side, summary=summary))
        writer.close()
        names = [path.name for path in summary.paths]
        if not names:
            raise BadSourceError(
                f"no window of {side} pixels in {', '.join(map(str, data))}: {summary.dropped} "
                f"had too few valid pixels, {len(summary.too_small)} captures were too small"
            )
    summary.paths = [out / name for name in names]
    return summary


def _note(summary: Packed, origin: str, licence: str) -> None:
    known = summary.licences.setdefault(origin, licence)
    if known != licence:
        raise BadSourceError(
            f"origin {origin!r} has the licences {known!r} and {licence!r}; give the parts "
            "different origins in pool.toml files of their own"
        )


def _of_shard(path: Path, side: int, summary: Packed) -> Iterator[Crop]:
    shard: Shard = read_shard(path)
    for name, licence in zip(shard.origins, shard.licences, strict=True):
        _note(summary, name, licence)
    for name, layer in shard.layers.items():
        if layer.stored.shape[2:] != (side, side) or layer.bands != band_names(name):
            raise BadSourceError(f"{path} has other bands or another side than {side}")
    for i in range(len(shard)):
        one: dict[str, dict[str, Any]] = shard.batch([i])
        yield Crop(
            values={name: array[0] for name, array in one["arrays"].items()},
            gsd_m={name: float(v[0]) for name, v in one["gsd_m"].items()},
            day={name: float(v[0]) for name, v in one["day"].items()},
            origin=shard.origins[shard.origin[i]],
        )


class _Writer:
    """Collects windows by their set of sensors and writes a shard when there are enough."""

    def __init__(self, folder: Path, max_mb: float, summary: Packed) -> None:
        self.folder, self.max_mb, self.summary = folder, max_mb, summary
        self.waiting: dict[tuple[str, ...], list[Crop]] = defaultdict(list)
        self.written: dict[tuple[str, ...], int] = defaultdict(int)

    def add(self, stream: Iterator[Crop]) -> None:
        """Take windows in."""
        for window in stream:
            key = sensor_set(window.values)
            self.waiting[key].append(window)
            self.summary.windows[key] = self.summary.windows.get(key, 0) + 1
            each = sum(array.nbytes for array in window.values.values())
            if len(self.waiting[key]) * each >= BUFFER:
                self._flush(key)

    def close(self) -> None:
        """Write the rest."""
        for key in sorted(self.waiting):
            self._flush(key)

    def _flush(self, key: tuple[str, ...]) -> None:
        stacked = self.waiting.pop(key, [])
        if stacked:
            shard = shard_of(stacked, self.summary.licences)
            first = self.written[key]
            path = self.folder / "+".join(key)
            paths = write_shard(path, shard, max_mb=self.max_mb, first=first)
            self.written[key] += len(paths)
            self.summary.paths += paths


def open_pool(data: Sequence[Path], cache: Path, *, side: int = 64, **options: Any) -> Pool:
    """Return a pool of shards; anything else is packed into ``cache`` first.

    ``options`` are those of `Pool`. A cache that is there already is used as it is.
    """
    roots = list(map(Path, data))
    packed = all(shards_in(root) and next(captures(root), None) is None for root in roots)
    if packed:
        return Pool([path for root in roots for path in shards_in(root)], **options)
    if not cache.exists():
        pack(roots, cache, side=side)
    return Pool([cache], **options)
