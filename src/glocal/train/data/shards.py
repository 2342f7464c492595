"""Shards: windows of one set of sensors in one compressed file.

A shard is a zip archive of ``shard.json`` and plain ``.npy`` arrays (``numpy.load`` opens
it too). Values are stored as compact numbers, ``value = stored * scale + offset``.
"""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from glocal.core.sensor import sensor
from glocal.errors import BadSourceError, SourceUnavailableError, UnknownSensorError
from glocal.io.atomic import write_bytes

SENSORS = {"rgb": "rgb", "s2": "sentinel2-l1c", "sar": "sentinel1-db", "dsm": "dsm"}
"""Short name -> name in the table of sensors, in the order used for sets of sensors."""

CODES = {"s2": (1e-4, -0.2), "sar": (0.01, -100.0), "rgb": (1 / 255, 0.0)}
"""Short name -> scale and offset as 16-bit numbers; other sensors stay floating point."""

HOLE = 65535
STEP = 64
"""Floating-point layers are rounded to 1/64, which compresses well: 1.6 cm of height."""

FORMAT, VERSION = "glocal-shard", 1
MAX_MB = 60.0

DAMAGED = (
    *(OSError, EOFError, zipfile.BadZipFile, zlib.error),
    *(KeyError, ValueError, TypeError, AttributeError),
    RuntimeError,  # zipfile: unknown compression, encrypted
)
"""What reading a damaged file may raise."""

Arguments = dict[str, dict[str, Any]]
"""Keyword arguments of ``msgfm.batch_of``: arrays, bands, gsd_m, day."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Crop:
    """A square of one or more sensors on one grid."""

    values: Mapping[str, NDArray[np.float32]]
    """Short name -> (C, H, W) in physical units, NaN where invalid."""

    gsd_m: Mapping[str, float]
    day: Mapping[str, float]
    """Day of the year, NaN where unknown."""

    origin: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Layer:
    """What one sensor saw in all windows of a shard."""

    stored: NDArray[Any]
    """Shape (n, C, H, W)."""

    bands: tuple[str, ...]
    scale: float = 1.0
    offset: float = 0.0
    nodata: int | None = None
    """Stored number of invalid pixels; NaN is invalid in any case."""

    gsd_m: NDArray[np.float32]
    """Shape (n,)."""

    day: NDArray[np.float32]
    """Shape (n,), day of the year, NaN where unknown."""

    def values(self, indices: NDArray[np.intp]) -> NDArray[np.float32]:
        """Return (len(indices), C, H, W) in physical units, NaN where invalid."""
        stored = self.stored[indices]
        values = (stored * np.float64(self.scale) + self.offset).astype(np.float32)
        if self.nodata is not None:
            values[stored == self.nodata] = np.nan
        return values


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Shard:
    """Windows that share one set of sensors and one size."""

    layers: Mapping[str, Layer]
    origin: NDArray[np.int32]
    """Shape (n,): which of ``origins`` a window is from."""

    origins: tuple[str, ...]
    licences: tuple[str, ...]
    """One per origin."""

    def __post_init__(self) -> None:
        shapes = {
            layer.stored.shape[0:1] + layer.stored.shape[2:] for layer in self.layers.values()
        }
        if len(shapes) != 1 or shapes.pop()[0] != len(self.origin):
            raise BadSourceError("all layers of a shard must hold the same windows, same side")
        for name, layer in self.layers.items():
            n, count = layer.stored.shape[:2]
            if count != len(layer.bands) or layer.gsd_m.shape != (n,) or layer.day.shape != (n,):
                raise BadSourceError(
                    f"layer {name!r} must have {count} bands and {n} gsd_m and day"
                )
        if (
            len(self.origins) != len(self.licences)
            or not ((self.origin >= 0) & (self.origin < len(self.origins))).all()
        ):
            raise BadSourceError("each window needs an origin, each origin a licence")

    def __len__(self) -> int:
        return len(self.origin)

    @property
    def sensors(self) -> tuple[str, ...]:
        """The set of sensors, in the order of ``SENSORS``."""
        return sensor_set(self.layers)

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return sum(layer.stored.nbytes for layer in self.layers.values())

    def batch(self, indices: ArrayLike) -> Arguments:
        """Return the arguments of ``batch_of`` for some windows, in their order."""
        rows = np.asarray(indices, np.intp)
        layers = {name: self.layers[name] for name in self.sensors}
        return {
            "arrays": {name: layer.values(rows) for name, layer in layers.items()},
            "bands": {name: layer.bands for name, layer in layers.items()},
            "gsd_m": {name: layer.gsd_m[rows] for name, layer in layers.items()},
            "day": {name: layer.day[rows] for name, layer in layers.items()},
        }

    def part(self, start: int, stop: int) -> Shard:
        """Return windows ``start`` to ``stop``, with all origins kept."""
        cut = slice(start, stop)
        layers = {
            name: replace(one, stored=one.stored[cut], gsd_m=one.gsd_m[cut], day=one.day[cut])
            for name, one in self.layers.items()
        }
        return replace(self, layers=layers, origin=self.origin[cut])


def sensor_set(names: Mapping[str, Any] | Sequence[str]) -> tuple[str, ...]:
    """Return the names in the order of ``SENSORS``.

    Raises
    ------
    UnknownSensorError
        Lists the names that exist.
    """
    unknown = sorted(set(names) - set(SENSORS))
    if unknown:
        raise UnknownSensorError(f"no sensor {unknown[0]!r} in shards; known: {', '.join(SENSORS)}")
    return tuple(name for name in SENSORS if name in names)


def band_names(name: str) -> tuple[str, ...]:
    """Return the bands that a shard stores for a sensor, in order."""
    return tuple(band.name for band in sensor(SENSORS[name]).bands)


def crops(
    values: Mapping[str, NDArray[np.float32]], *, side: int, stride: int
) -> Iterator[dict[str, NDArray[np.float32]]]:
    """Yield squares of ``side`` pixels about ``stride`` apart, spread evenly to the edges.

    ``values`` are (C, H, W) on one grid; images smaller than ``side`` yield nothing.
    """
    height, width = next(iter(values.values())).shape[1:]
    for top in _starts(height, side, stride):
        for left in _starts(width, side, stride):
            cut = (slice(None), slice(top, top + side), slice(left, left + side))
            yield {name: array[cut] for name, array in values.items()}


def _starts(length: int, side: int, stride: int) -> list[int]:
    if length < side:
        return []
    count = (length - side) // stride + 1
    return [int(one) for one in np.linspace(0, length - side, count).round()]


def coverage(values: Mapping[str, NDArray[np.float32]]) -> float:
    """Return the share of pixels with some valid band, of the sensor that has fewest."""
    return min(float(np.isfinite(array).any(axis=0).mean()) for array in values.values())


def shard_of(windows: Sequence[Crop], licences: Mapping[str, str]) -> Shard:
    """Stack windows that share their sensors and their side.

    Raises
    ------
    BadSourceError
        The windows differ in sensors, bands or side, or a value is beyond what is stored.
    KeyError
        An origin has no licence.
    """
    if not windows:
        raise BadSourceError("a shard needs at least one window")
    if len({tuple(sorted(window.values)) for window in windows}) != 1:
        raise BadSourceError("the windows of a shard must have the same sensors")
    origins = tuple(sorted({window.origin for window in windows}))
    number = {name: i for i, name in enumerate(origins)}
    layers = {}
    for name in sensor_set(windows[0].values):
        if len({window.values[name].shape for window in windows}) != 1:
            raise BadSourceError(f"all windows of {name!r} must have the same bands and side")
        values = np.stack([window.values[name] for window in windows])
        if values.shape[1] != len(band_names(name)):
            raise BadSourceError(f"{name!r} needs the bands {', '.join(band_names(name))}")
        layers[name] = Layer(
            **_encode(name, values),
            bands=band_names(name),
            gsd_m=np.array([window.gsd_m[name] for window in windows], np.float32),
            day=np.array([window.day[name] for window in windows], np.float32),
        )
    return Shard(
        layers=layers,
        origin=np.array([number[window.origin] for window in windows], np.int32),
        origins=origins,
        licences=tuple(licences[name] for name in origins),
    )


def _encode(name: str, values: NDArray[np.float32]) -> dict[str, Any]:
    valid = np.isfinite(values)
    if name not in CODES:
        rounded = np.where(valid, np.round(values * STEP) / STEP, np.nan)
        return {"stored": rounded.astype(np.float32)}
    scale, offset = CODES[name]
    numbers = np.round((np.where(valid, values, offset) - np.float64(offset)) / scale)
    # Colour without holes needs 8 bits only.
    whole = name == "rgb" and bool(valid.all())
    limit = 255 if name == "rgb" else HOLE - 1
    if numbers.min() < 0 or numbers.max() > limit:
        raise BadSourceError(
            f"values of {name!r} must lie in [{offset:g}, {offset + limit * scale:g}], got "
            f"[{np.nanmin(values):g}, {np.nanmax(values):g}]; are they in its physical unit?"
        )
    code = {"scale": scale, "offset": offset}
    if whole:
        return {**code, "stored": numbers.astype(np.uint8)}
    stored = np.where(valid, numbers, HOLE).astype(np.uint16)
    return {**code, "stored": stored, "nodata": HOLE}


def write_shard(path: Path, shard: Shard, *, max_mb: float = MAX_MB, first: int = 0) -> list[Path]:
    """Write a shard as ``<path>-00.npz``, ``<path>-01.npz``, …, each below ``max_mb``.

    ``first`` is the number of the first file. Files are atomic, and the same shard gives the
    same bytes.
    """
    packed, parts = [_packed(shard)], 1
    while max(map(len, packed)) > max_mb * 1e6 and parts < len(shard):
        parts = min(
            len(shard), max(parts + 1, int(np.ceil(sum(map(len, packed)) / max_mb / 9.5e5)))
        )
        edges = np.linspace(0, len(shard), parts + 1).round().astype(int)
        packed = [_packed(shard.part(int(a), int(b))) for a, b in pairwise(edges)]
    paths = [path.with_name(f"{path.name}-{first + i:02d}.npz") for i in range(len(packed))]
    for one, content in zip(paths, packed, strict=True):
        write_bytes(one, content)
    return paths


def _packed(shard: Shard) -> bytes:
    header: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "n": len(shard),
        "origins": list(shard.origins),
        "licences": list(shard.licences),
        "counts": np.bincount(shard.origin, minlength=len(shard.origins)).tolist(),
        "layers": {},
    }
    arrays: dict[str, NDArray[Any]] = {"origin": shard.origin}
    for name in shard.sensors:
        layer = shard.layers[name]
        header["layers"][name] = {
            "bands": list(layer.bands),
            "side": list(layer.stored.shape[2:]),
            "nbytes": layer.stored.nbytes,
            "scale": layer.scale,
            "offset": layer.offset,
            "nodata": layer.nodata,
        }
        arrays |= {f"{name}.stored": layer.stored, f"{name}.gsd_m": layer.gsd_m}
        arrays |= {f"{name}.day": layer.day}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        text = json.dumps(header, indent=1, sort_keys=True, allow_nan=False)
        _add(archive, "shard.json", text.encode())
        for key, array in sorted(arrays.items()):
            one = io.BytesIO()
            np.lib.format.write_array(one, np.ascontiguousarray(array), allow_pickle=False)
            _add(archive, f"{key}.npy", one.getvalue())
    return buffer.getvalue()


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    # a fixed date: the same shard must give the same bytes
    member = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
    member.compress_type = zipfile.ZIP_DEFLATED
    archive.writestr(member, content, compresslevel=6)


def _header(archive: zipfile.ZipFile, path: Path) -> dict[str, Any]:
    header: dict[str, Any] = json.loads(archive.read("shard.json"))
    if header.get("format") != FORMAT or header.get("version") != VERSION:
        raise BadSourceError(
            f"{path} is {header.get('format')} version {header.get('version')}; this program "
            f"reads {FORMAT} version {VERSION}: pack the data again, or update Glocal"
        )
    return header


def read_header(path: Path) -> dict[str, Any]:
    """Return what a shard holds and the origin of each window, without decoding its values.

    Raises
    ------
    SourceUnavailableError
        The file is missing, truncated, damaged or no shard.
    BadSourceError
        The shard is of another version.
    """
    with _opened(path) as archive:
        return {**_header(archive, path), "origin": _array(archive, "origin")}


def read_shard(path: Path) -> Shard:
    """Read a shard; errors as for `read_header`. Pickled content is never loaded."""
    with _opened(path) as archive:
        header = _header(archive, path)
        layers = {}
        for name, row in header["layers"].items():
            layers[name] = Layer(
                stored=_array(archive, f"{name}.stored"),
                bands=tuple(row["bands"]),
                scale=float(row["scale"]),
                offset=float(row["offset"]),
                nodata=row["nodata"],
                gsd_m=_array(archive, f"{name}.gsd_m"),
                day=_array(archive, f"{name}.day"),
            )
        return Shard(
            layers=layers,
            origin=_array(archive, "origin"),
            origins=tuple(header["origins"]),
            licences=tuple(header["licences"]),
        )


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open a shard; whatever is found to be wrong with it while it is read is told as one error."""
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except DAMAGED as error:
        if isinstance(error, BadSourceError):
            raise
        raise SourceUnavailableError(
            f"can't read shard {path}: {error}; it may be truncated or no shard, pack it again"
        ) from error


def _array(archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    content = io.BytesIO(archive.read(f"{name}.npy"))
    array: NDArray[Any] = np.lib.format.read_array(content, allow_pickle=False)
    return array
