"""Images onto the grid of the area, in physical units, refused when the units can't be right."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from glocal.core.chip import Chip
from glocal.core.grid import require_overlap
from glocal.core.interval import Interval
from glocal.core.provenance import Provenance
from glocal.core.sensor import Band, Sensor, sensor
from glocal.core.typing import Bools, Bytes, Layers
from glocal.errors import BadSourceError, ConfigError, SourceUnavailableError, UnitError
from glocal.io.raster import RasterInfo, info, native_grid, read_on
from glocal.sources.chips.sentinel2 import Product, acquisition, band_files, open_product

DARK = (-0.02, 0.1)
"""Reflectance that the 1st percentile of the darkest band must have (formats: Sentinel-2)."""

OFFSET = 0.1
"""Reflectance by which Sentinel-2 numbers are raised since processing baseline 04.00."""

OUTLIERS = 0.01
"""Share of cells outside the valid range that is dropped quietly; more means a wrong unit."""

TO_POWER: dict[str, Callable[[NDArray[Any]], NDArray[Any]]] = {
    "dB": lambda values: np.power(10.0, values.astype(np.float64) / 10),
    "linear": lambda values: values.astype(np.float64),
}
"""Radar is resampled as power: the mean of decibels is no mean of what was received."""

_POLARISATION = re.compile(r"(?:^|[_.\-])(VV|VH)$", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Scene:
    """Where an image lies, the grid that it is read onto, and what is said of how it is stored."""

    path: Path
    geobox: GeoBox
    unit: str | None
    offset: float | None
    crs: Any | None
    bands: Sequence[str] | None

    def on_grid(self, file: Path, band: int, **how: Any) -> tuple[NDArray[Any], Bools]:
        """Return values and validity of one band of ``file``, as `glocal.io.raster.read_on`."""
        return read_on(file, self.geobox, band=band, crs=self.crs, **how)

    def header(self) -> tuple[Path, RasterInfo]:
        """Return the image's file, or the only raster of its folder, and what its header says."""
        path, found = self.path, [self.path]
        if path.is_dir():
            found = [one for one in path.iterdir() if one.suffix.lower() in (".tif", ".tiff")]
        if len(found) != 1:
            raise BadSourceError(
                f"{path} must hold one raster, it holds {len(found)}; name the file"
            )
        header = info(found[0], self.crs)
        require_overlap(found[0].name, header.grid.extent, self.geobox)
        return found[0], header

    def polarisations(self) -> dict[str, tuple[Path, int]]:
        """Return file and band number of ``VV`` and ``VH``, those that exist."""
        path = self.path
        if not path.exists():
            raise SourceUnavailableError(f"{path} does not exist; check the path in area.yaml")
        if path.is_dir():
            found = {name: (file, 1) for name, file in band_files(path, _POLARISATION).items()}
        else:
            names = tuple(self.bands or info(path, "EPSG:4326").descriptions)
            matches = [
                _POLARISATION.search(one) for one in ((path.stem,) if names == ("",) else names)
            ]
            found = {m.group(1).upper(): (path, i) for i, m in enumerate(matches, 1) if m}
        if not found:
            raise BadSourceError(
                f"{path} does not say which band is VV and which VH; name files ..._VV.tif, or set "
                "bands: as [VV, VH]"
            )
        return {name: found[name] for name in ("VV", "VH") if name in found}

    def files(self, bands: dict[str, tuple[Path, int]]) -> tuple[Path, ...]:
        """Return the files of bands, each once; refuse those of another place."""
        files = tuple(dict.fromkeys(file for file, _ in bands.values()))
        require_overlap(self.path.name, native_grid(files[0], self.crs).extent, self.geobox)
        return files


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Layers:
    """What the reader of one kind of image returns."""

    sensor: Sensor
    bands: tuple[Band, ...]
    values: Layers
    valid: Bools
    files: tuple[Path, ...]
    root: str
    interval: Interval | None
    note: str = ""

    def provenance(self, source: str, when: Interval, licence: str) -> Provenance:
        """Return where the pixels come from."""
        esa = licence == "Copernicus" and self.sensor.name.startswith("sentinel")
        credit = (f"Contains modified Copernicus Sentinel data {when.start.year}",) if esa else ()
        return Provenance(
            activity=f"read {self.sensor.title}" + (f" ({self.note})" if self.note else ""),
            agent="Copernicus / ESA" if esa else source,
            used=tuple(one.name for one in self.files),
            licences=frozenset({licence}) if licence else frozenset(),
            roots=frozenset({self.root}),
            attribution=credit,
            generated_at=when.start,
        )


def read_image(
    path: Path,
    kind: str,
    geobox: GeoBox,
    *,
    interval: Interval | None = None,
    unit: str | None = None,
    offset: float | None = None,
    crs: Any | None = None,
    bands: Sequence[str] | None = None,
    source: str = "image",
    licence: str = "Copernicus",
) -> Chip:
    """Read an image onto ``geobox``, in the unit of its sensor's table.

    ``kind`` is ``sentinel2`` (SAFE folder, folder of band files, stacked raster; to
    reflectance), ``sentinel1`` (VV and VH, decibels or linear power; to dB, resampled as
    power), ``dsm`` (metres) or ``rgb`` (8 bits, or 0..1; to 0..1). Coarser bands are
    resampled bilinearly. ``unit`` says how numbers are stored (``DN``, ``1``, ``dB``,
    ``linear``, ``m``); without it, it is told from the data or refused. ``offset`` is added
    to Sentinel-2 numbers before division, for files without metadata.
    ``interval`` is needed where neither metadata nor file name carries a date.
    NaN, infinity and nodata become invalid cells.

    Raises
    ------
    SourceUnavailableError
        Missing, truncated or unreadable file, named.
    GridMismatchError
        No CRS, or no overlap with the area.
    UnitError
        Values that the unit does not allow.
    BadSourceError
        Bands can't be told apart, no valid cell, or dates that contradict.
    """
    readers = {"sentinel2": _sentinel2, "sentinel1": _sentinel1, "dsm": _dsm, "rgb": _rgb}
    if kind not in readers:
        raise ConfigError(f"{source}: kind must be one of {', '.join(readers)}, got {kind!r}")
    scene = _Scene(path=Path(path), geobox=geobox, unit=unit, offset=offset, crs=crs, bands=bands)
    layers = readers[kind](scene)
    if not layers.valid.any():
        raise BadSourceError(
            f"{source}: {path} has no valid cell inside the area (all are nodata, NaN or "
            "infinite); check the file, its nodata value and the area"
        )
    when = layers.interval or interval
    if when is None:
        raise BadSourceError(
            f"{source}: no acquisition date in the metadata or the name of "
            f"{layers.files[0].name}; set interval: as 2017-02-16"
        )
    if interval and not when.overlaps(interval):
        raise BadSourceError(
            f"{source}: interval {interval.isoformat()} contradicts the file, which says "
            f"{when.isoformat()}; leave interval: out, or correct it"
        )
    return Chip(
        values=layers.values,
        valid=layers.valid,
        bands=layers.bands,
        geobox=geobox,
        interval=when,
        provenance=layers.provenance(source, when, licence),
        sensor=layers.sensor.name,
    )


def _checked(path: Path, bands: Sequence[Band], values: Layers, valid: Bools) -> Bools:
    """Return ``valid`` without outliers; refuse where many cells leave the band's range."""
    kept = valid.copy()
    for i, band in enumerate(bands):
        outside = valid[i] & ~((values[i] >= band.valid_min) & (values[i] <= band.valid_max))
        share = outside.sum() / max(int(valid[i].sum()), 1)
        if share > OUTLIERS:
            low, high = np.percentile(values[i][valid[i]], (1, 99))
            raise UnitError(
                f"{path.name}: {share:.0%} of band {band.name} lies outside "
                f"{band.valid_min:g}..{band.valid_max:g} {band.unit} (1st and 99th percentile "
                f"{low:.4g}, {high:.4g}); set unit: to what the file holds"
            )
        kept[i] &= ~outside
    return kept


# Sentinel-2 -----------------------------------------------------------------


def _sentinel2(scene: _Scene) -> _Layers:
    product = open_product(scene.path, tuple(scene.bands) if scene.bands else None)
    table = sensor(f"sentinel2-{product.level.lower()}")
    wanted = tuple(table.band(name) for name in product.bands)
    files = scene.files(product.bands)
    numbers = _stored_unit(scene, product) == "DN"
    shape = (len(wanted), *scene.geobox.shape)
    values, valid = np.zeros(shape, np.float32), np.zeros(shape, bool)
    for i, band in enumerate(wanted):
        nodata = (0, 65535) if numbers else ()
        values[i], valid[i] = scene.on_grid(
            *product.bands[band.name], resampling="bilinear", nodata=nodata
        )
        if numbers:
            added = product.offsets.get(band.name, scene.offset or 0.0)
            values[i] = (values[i] + added) / product.quantification
    # Some products write 0 in every band where nothing was seen, without calling it nodata.
    valid &= ~(values == 0).all(axis=0)
    values[~valid] = 0
    valid = _checked(scene.path, wanted, values, valid)
    _dark_check(scene, product, values, valid)
    return _Layers(
        sensor=table,
        bands=wanted,
        values=values,
        valid=valid,
        files=files,
        root=product.root,
        interval=product.interval,
        note=_offset_text(product, scene.offset),
    )


def _stored_unit(scene: _Scene, product: Product) -> str:
    """Return ``DN`` or ``1``, as was said, or from type and size of the numbers."""
    said = {"reflectance": "1"}.get(scene.unit or "", scene.unit)
    if said not in (None, "DN", "1"):
        raise UnitError(f"Sentinel-2 is stored as DN or 1 (reflectance), got unit {said!r}")
    file, number = product.bands.get("B08") or next(iter(product.bands.values()))
    values, valid = scene.on_grid(file, number, nodata=(0, 65535))
    high = float(np.percentile(values[valid], 99)) if valid.any() else np.nan
    looks = "DN" if high > 10 else "1"
    if said is None:
        whole = info(file, scene.crs or "EPSG:4326").dtypes[number - 1].startswith(("int", "uint"))
        said = "DN" if whole or product.described else "1"
    if np.isfinite(high) and said != looks:
        raise UnitError(
            f"{file.name}: taken as {'DN' if said == 'DN' else 'reflectance (1)'}, but its 99th "
            f"percentile is {high:.4g} (reflectance stays below 3, DN / 10000 does too); "
            f"set unit: {looks}"
        )
    return said


def _offset_text(product: Product, offset: float | None) -> str:
    if product.offsets:
        numbers = sorted(set(product.offsets.values()))
        return f"offset {', '.join(f'{n:g}' for n in numbers)} from metadata"
    if product.described:
        return "metadata without offset"
    return "no offset" if offset is None else f"offset {offset:g} as configured"


def _dark_check(scene: _Scene, product: Product, values: Layers, valid: Bools) -> None:
    """Refuse an offset that was forgotten or applied twice.

    Dark cells (SCL water or dark where known) must have a 1st percentile within `DARK` in
    the darkest band. Above, only a lift by one offset is suspected: brighter scenes are
    bright (snow, full cloud). A configured offset is believed against that.
    """
    scl = read_scl(scene.path, scene.geobox, crs=scene.crs)
    dark = np.isin(scl, (2, 6)) if scl is not None else np.zeros(valid.shape[1:], bool)
    known = int(dark.sum()) >= 50
    cells = valid & dark if known else valid
    there = [band[at] for band, at in zip(values, cells, strict=True) if at.any()]
    darkest = min((float(np.percentile(one, 1)) for one in there), default=0.0)
    trusted = scene.offset is not None or (product.described and not known)
    lifted = DARK[1] < darkest <= DARK[1] + OFFSET and not trusted
    if darkest < DARK[0] or lifted:
        hint = "offset: -1000" if lifted else "offset: 0"
        applied = _offset_text(product, scene.offset)
        raise UnitError(
            f"{scene.path.name}: the 1st percentile of its darkest band is {darkest:.3f}, outside "
            f"{DARK[0]}..{DARK[1]} reflectance, with {applied} applied; the offset "
            f"was probably {'forgotten' if lifted else 'taken off twice'}: set {hint} "
            "(a given offset: is believed for bright deserts)"
        )


def read_scl(path: Path, geobox: GeoBox, *, crs: Any | None = None) -> Bytes | None:
    """Return the scene classification on ``geobox``, shape (H, W), 0 where absent.

    None when the product has no SCL (Level-1C, or a stack without it).
    """
    file = band_files(Path(path)).get("SCL") if Path(path).is_dir() else None
    if file is None:
        return None
    values, valid = read_on(file, geobox, crs=crs)
    return np.where(valid, values, 0).astype(np.uint8)


# Sentinel-1 -----------------------------------------------------------------


def _sentinel1(scene: _Scene) -> _Layers:
    layers = scene.polarisations()
    files = scene.files(layers)
    table = sensor("sentinel1-db")
    wanted = tuple(table.band(name) for name in layers)
    values, valid = [], []
    for name, (file, number) in layers.items():
        power = TO_POWER[_radar_unit(scene, file, number, name)]
        with np.errstate(over="ignore", invalid="ignore"):
            one, there = scene.on_grid(
                file, number, resampling="bilinear", nodata=(0,), before=power
            )
        values.append(10 * np.log10(np.where(there & (one > 0), one, 1)))
        valid.append(there & (one > 0))
    stack, there = np.stack(values).astype(np.float32), np.stack(valid)
    identity, when = acquisition(_POLARISATION.sub("", files[0].stem))
    return _Layers(
        sensor=table,
        bands=wanted,
        values=stack,
        valid=_checked(scene.path, wanted, stack, there),
        files=files,
        root=f"S1:{identity}",
        interval=when or acquisition(scene.path.stem)[1],
    )


def _radar_unit(scene: _Scene, file: Path, number: int, name: str) -> str:
    """Return ``dB`` or ``linear``; refuse what neither can be."""
    said = {"1": "linear", "power": "linear"}.get(scene.unit or "", scene.unit)
    if said not in (None, "dB", "linear"):
        raise UnitError(f"Sentinel-1 is stored in dB or linear power, got unit {said!r}")
    values, valid = scene.on_grid(file, number, nodata=(0,))
    if not valid.any():
        return said or "dB"
    negative = float((values[valid] < 0).mean())
    median = float(np.median(values[valid]))
    if negative > OUTLIERS and -40 <= median <= 5:
        looks = "dB"
    elif negative <= OUTLIERS and median <= 2:
        looks = "linear"
    else:
        raise UnitError(
            f"{file.name}: {name} is neither dB (median -40..5) nor linear power (no negative "
            f"value, median below 2): median {median:.4g}, {negative:.0%} negative; calibrate "
            "amplitudes (GRD) to sigma0 or gamma0 first"
        )
    if said is not None and said != looks:
        raise UnitError(
            f"{file.name}: unit is given as {said}, but {name} has median {median:.4g} and "
            f"{negative:.0%} negative values, which is {looks}; set unit: {looks}"
        )
    return looks


# Heights and colour ---------------------------------------------------------


def _dsm(scene: _Scene) -> _Layers:
    if scene.unit not in (None, "m"):
        raise UnitError(
            f"{scene.path.name}: heights must be in m, got unit {scene.unit!r}; convert them first"
        )
    file, _ = scene.header()
    values, valid = scene.on_grid(file, 1, resampling="bilinear")
    return _single("dsm", file, values[None], valid[None])


def _rgb(scene: _Scene) -> _Layers:
    file, header = scene.header()
    if len(header.dtypes) < 3:
        raise BadSourceError(f"{file.name} has {len(header.dtypes)} bands, a colour image needs 3")
    table = sensor("rgb")
    named = scene.bands and list(scene.bands)
    order = [named.index(one.name) + 1 for one in table.bands] if named else [1, 2, 3]
    read = [scene.on_grid(file, i, resampling="bilinear") for i in order]
    values = np.stack([one for one, _ in read]).astype(np.float32)
    valid = np.stack([there for _, there in read])
    if scene.unit == "DN" or (scene.unit is None and header.dtypes[0] == "uint8"):
        values = values * np.float32(table.bands[0].scale)
    return _single("rgb", file, np.where(valid, values, 0), valid)


def _single(name: str, file: Path, values: Layers, valid: Bools) -> _Layers:
    """Return the layers of an image that is one file with all bands of a sensor."""
    table = sensor(name)
    return _Layers(
        sensor=table,
        bands=table.bands,
        values=values,
        valid=_checked(file, table.bands, values, valid),
        files=(file,),
        root=f"{name.upper()}:{file.stem}",
        interval=acquisition(file.stem)[1],
    )
