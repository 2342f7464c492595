"""Rasters in and out: any file onto the grid of the area, arrays to cloud-optimised GeoTIFF."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr
from zipfile import BadZipFile, ZipFile

import numpy as np
import rasterio
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.io import DatasetReader, MemoryFile
from rasterio.shutil import copy as copy_raster
from rasterio.transform import Affine
from rasterio.warp import reproject, transform_bounds
from rasterio.windows import Window, from_bounds

from glocal.core.legend import Legend
from glocal.core.typing import Bools
from glocal.errors import GridMismatchError, SourceUnavailableError
from glocal.io.atomic import write_bytes, write_text

CATEGORICAL = ("nearest", "mode")
OVERSAMPLING = 4
"""A much finer source is first read at this many of its cells per cell of the grid."""

COG = {
    "driver": "COG",
    "BLOCKSIZE": 512,
    "COMPRESS": "DEFLATE",
    "LEVEL": 6,
    "BIGTIFF": "IF_SAFER",
    "NUM_THREADS": 1,
}

LON_LAT = CRS.from_epsg(4326)


@dataclass(frozen=True, slots=True, kw_only=True)
class RasterInfo:
    """What the header of a raster says."""

    grid: GeoBox
    dtypes: tuple[str, ...]
    descriptions: tuple[str, ...]
    """One per band, empty where the file gives none."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pixels:
    """A rectangle of one band on the source's own grid."""

    values: NDArray[Any]
    """Shape (y, x), as stored."""

    valid: Bools
    grid: GeoBox
    offset_yx: tuple[int, int] = (0, 0)
    """Row and column of the first pixel in the file."""


@contextmanager
def _opened(path: Path) -> Iterator[DatasetReader]:
    """Open a raster; every failure inside names the file and its cause."""
    try:
        if not path.exists():
            raise SourceUnavailableError(f"{path} does not exist; check the path in area.yaml")
        _refuse_truncated_jp2(path)
        with rasterio.open(_inside(path)) as dataset:
            yield dataset
    except (RasterioError, OSError, BadZipFile) as error:
        if isinstance(error, SourceUnavailableError):
            raise
        cause = error.__cause__ or error
        raise SourceUnavailableError(
            f"can't read {path}: {cause}; the file may be truncated, download it again"
        ) from error


def _inside(path: Path) -> str:
    """Return what GDAL opens: the file itself, or the only file of a zip (SRTM tiles)."""
    if path.suffix.lower() != ".zip":
        return str(path)
    with ZipFile(path) as archive:
        members = archive.namelist()
    if len(members) != 1:
        raise SourceUnavailableError(
            f"{path} must hold one raster, it holds {len(members)} files; unpack it and name one"
        )
    return f"/vsizip/{path.resolve()}/{members[0]}"


def _refuse_truncated_jp2(path: Path) -> None:
    """Refuse a JPEG 2000 file without its end marker FF D9, which decoders fill with zeros."""
    if path.suffix.lower() not in (".jp2", ".j2k"):
        return
    with path.open("rb") as handle:
        handle.seek(max(path.stat().st_size - 2, 0))
        end = handle.read()
    if end != b"\xff\xd9":
        raise SourceUnavailableError(
            f"{path} is truncated: a JPEG 2000 file ends with bytes ff d9, this one with "
            f"{end.hex(' ') or 'nothing'}; download it again"
        )


def _grid(dataset: DatasetReader, crs: Any | None) -> GeoBox:
    found = dataset.crs if crs is None else CRS.from_user_input(crs)
    if found is None:
        raise GridMismatchError(
            f"{dataset.name} has no CRS, so its place is not known; set crs: in area.yaml "
            "to the one that its producer states, as EPSG:32633"
        )
    if dataset.transform == Affine.identity():
        raise GridMismatchError(
            f"{dataset.name} has no geotransform, so its place is not known; "
            "use the georeferenced file"
        )
    # Global products on "unknown" ellipsoids mean plain degrees: the shift that a datum
    # transformation would invent is far below their cell size.
    if found.is_geographic and found.to_epsg() is None:
        unnamed = "unknown" in found.to_wkt().split("SPHEROID")[0].lower()
        found = LON_LAT if unnamed else found
    return GeoBox(dataset.shape, dataset.transform, found.to_string())


def info(path: Path, crs: Any | None = None) -> RasterInfo:
    """Return what the header of ``path`` says; ``crs`` overrides a missing or wrong one."""
    with _opened(Path(path)) as dataset:
        return RasterInfo(
            grid=_grid(dataset, crs),
            dtypes=tuple(dataset.dtypes),
            descriptions=tuple(text or "" for text in dataset.descriptions),
        )


def native_grid(path: Path, crs: Any | None = None) -> GeoBox:
    """Return the raster's own grid."""
    return info(path, crs).grid


def _crs(grid: GeoBox) -> CRS:
    return CRS.from_user_input(str(grid.crs))


def _bounds_in(geobox: GeoBox, grid: GeoBox) -> tuple[float, ...]:
    """Return left, bottom, right, top of ``geobox`` in the CRS of ``grid``."""
    bounds = geobox.extent.boundingbox.bbox
    return tuple(transform_bounds(_crs(geobox), _crs(grid), *bounds, densify_pts=21))


def cell_size_on(grid: GeoBox, geobox: GeoBox) -> float:
    """Return the side of a cell of ``grid`` in cells of ``geobox``, about, over its extent.

    >>> one = GeoBox.from_bbox((0, 0, 100, 100), "EPSG:32633", resolution=10)
    >>> cell_size_on(one.zoom_out(2), one)
    2.0
    """
    left, bottom, right, top = _bounds_in(geobox, grid)
    rows = (top - bottom) / abs(grid.resolution.y)
    columns = (right - left) / abs(grid.resolution.x)
    height, width = geobox.shape
    return float(np.sqrt((height / rows) * (width / columns)))


def _window(grid: GeoBox, geobox: GeoBox) -> Window:
    """Return the pixels of ``grid`` needed for ``geobox``, two more on each side."""
    (top, bottom), (left, right) = from_bounds(
        *_bounds_in(geobox, grid), transform=grid.transform
    ).toranges()
    height, width = grid.shape
    top, bottom = np.clip([np.floor(top) - 2, np.ceil(bottom) + 2], 0, height).astype(int)
    left, right = np.clip([np.floor(left) - 2, np.ceil(right) + 2], 0, width).astype(int)
    return Window(left, top, right - left, bottom - top)


def read_pixels(
    path: Path,
    geobox: GeoBox,
    *,
    band: int = 1,
    crs: Any | None = None,
    nodata: Sequence[float] = (),
    categorical: bool = False,
) -> Pixels:
    """Read the part of ``path`` that ``geobox`` needs, on the file's own grid.

    Invalid are the file's nodata and mask, NaN and infinity, and the values in ``nodata``.
    A source more than eight times finer than the grid is averaged (or thinned, when
    categorical) on reading, so that memory follows the size of the grid.
    """
    with _opened(Path(path)) as dataset:
        grid = _grid(dataset, crs)
        window = _window(grid, geobox)
        if window.width == 0 or window.height == 0:
            nothing = np.zeros((0, 0), dataset.dtypes[band - 1])
            return Pixels(values=nothing, valid=nothing.astype(bool), grid=grid[:0, :0])
        thin = max(1, int(1 / cell_size_on(grid, geobox) / OVERSAMPLING / 2))
        shape = (max(1, int(window.height) // thin), max(1, int(window.width) // thin))
        how = Resampling.nearest if categorical or thin == 1 else Resampling.average
        values = dataset.read(band, window=window, out_shape=shape, resampling=how)
        valid = dataset.read_masks(band, window=window, out_shape=shape) > 0
    if values.dtype.kind == "f":
        valid &= np.isfinite(values)
    for one in nodata:
        valid &= values != one
    part = grid[tuple(slice(*bounds) for bounds in window.toranges())]
    return Pixels(
        values=values,
        valid=valid,
        grid=part if thin == 1 else part.zoom_to(shape),
        offset_yx=(int(window.row_off), int(window.col_off)),
    )


def warp(pixels: Pixels, geobox: GeoBox, resampling: str = "nearest") -> tuple[NDArray[Any], Bools]:
    """Return (values, valid) of shape (H, W) on ``geobox``; invalid pixels never leak.

    ``nearest`` and ``mode`` keep the stored type; other methods give float32. Content of
    invalid cells is 0.
    """
    discrete, kind = resampling in CATEGORICAL, pixels.values.dtype
    hole: float = -(2**31) if discrete and kind.kind in "iu" else np.nan
    floating = np.float64 if kind == np.float64 else np.float32
    work: np.dtype[Any] = np.dtype(floating if np.isnan(hole) else np.int32)
    stored = kind if discrete else np.dtype(np.float32)
    if pixels.values.size == 0:
        return np.zeros(geobox.shape, stored), np.zeros(geobox.shape, bool)
    # What is invalid must be a hole on both sides, else GDAL mixes it in.
    source = np.where(pixels.valid, pixels.values.astype(work), hole).astype(work)
    target = np.full(geobox.shape, hole, work)
    reproject(
        source,
        target,
        src_transform=pixels.grid.transform,
        src_crs=_crs(pixels.grid),
        dst_transform=geobox.transform,
        dst_crs=_crs(geobox),
        src_nodata=hole,
        dst_nodata=hole,
        resampling=Resampling[resampling],
    )
    valid = np.isfinite(target) if work.kind == "f" else target != hole
    return np.where(valid, target, 0).astype(stored), valid


def read_on(
    path: Path,
    geobox: GeoBox,
    *,
    band: int = 1,
    resampling: str = "nearest",
    crs: Any | None = None,
    nodata: Sequence[float] = (),
    before: Callable[[NDArray[Any]], NDArray[Any]] | None = None,
) -> tuple[NDArray[Any], Bools]:
    """Read one band of ``path`` (1 is the first) onto ``geobox``.

    ``before`` is applied to the stored values before resampling (decibels are resampled
    as power). Returns ``values, valid``, both of shape (H, W); see `warp`.

    Raises
    ------
    SourceUnavailableError
        The file is missing, truncated or no raster.
    GridMismatchError
        The file has no CRS and ``crs`` is not given.
    """
    pixels = read_pixels(
        path, geobox, band=band, crs=crs, nodata=nodata, categorical=resampling in CATEGORICAL
    )
    if before is not None:
        values = before(pixels.values)
        pixels = replace(pixels, values=values, valid=pixels.valid & np.isfinite(values))
    return warp(pixels, geobox, resampling)


def write_cog(
    path: Path,
    array: NDArray[Any],
    geobox: GeoBox,
    *,
    nodata: float | None = None,
    band_names: Sequence[str] = (),
    colors: Legend | None = None,
    copyright: str = "",
    description: str = "",
    categorical: bool = True,
) -> None:
    """Write ``array``, shape (H, W) or (band, H, W), as a cloud-optimised GeoTIFF, atomically.

    Blocks of 512, DEFLATE; overviews by MODE for categories and AVERAGE for quantities.
    ``colors`` becomes the palette of a single-band map. The same input gives the same
    bytes.
    """
    layers = array[None] if array.ndim == 2 else array
    if layers.shape[1:] != tuple(geobox.shape):
        raise ValueError(f"array must have the grid's shape {geobox.shape}, got {array.shape}")
    predictor = "FLOATING_POINT" if layers.dtype.kind == "f" else "NO"
    overviews = "MODE" if categorical else "AVERAGE"
    options = {**COG, "PREDICTOR": predictor, "OVERVIEW_RESAMPLING": overviews}
    tags = {"TIFFTAG_COPYRIGHT": copyright, "TIFFTAG_IMAGEDESCRIPTION": description}
    with (
        _in_memory(layers, geobox, nodata, band_names, tags, colors) as memory,
        memory.open() as dataset,
        MemoryFile() as packed,
    ):
        # Packed in memory: on a full disk GDAL may print an error and return as if all were well.
        copy_raster(dataset, packed.name, **options)
        write_bytes(Path(path), packed.read())


def write_geotiff(
    path: Path,
    layers: NDArray[Any],
    geobox: GeoBox,
    *,
    nodata: float,
    band_names: Sequence[str],
    copyright: str,
) -> None:
    """Write ``layers``, shape (band, H, W), as a plain deflated GeoTIFF, atomically."""
    tags = {"TIFFTAG_COPYRIGHT": copyright}
    with _in_memory(layers, geobox, nodata, band_names, tags, compress="deflate") as memory:
        write_bytes(path, memory.read())


@contextmanager
def _in_memory(
    layers: NDArray[Any],
    geobox: GeoBox,
    nodata: float | None,
    band_names: Sequence[str],
    tags: Mapping[str, str],
    colors: Legend | None = None,
    **options: str,
) -> Iterator[MemoryFile]:
    """Yield a plain GeoTIFF in memory."""
    # Without PAM no .aux.xml appears beside the file.
    with rasterio.Env(GDAL_PAM_ENABLED=False), MemoryFile() as memory:
        with memory.open(
            driver="GTiff",
            count=len(layers),
            height=layers.shape[1],
            width=layers.shape[2],
            dtype=layers.dtype.name,
            crs=_crs(geobox),
            transform=geobox.transform,
            nodata=nodata,
            **options,
        ) as dataset:
            dataset.write(layers)
            dataset.update_tags(**{key: text for key, text in tags.items() if text})
            for band, name in enumerate(band_names, start=1):
                dataset.set_band_description(band, name)
            if colors is not None and len(layers) == 1 and layers.dtype == np.uint8:
                palette = {one.value: (*bytes.fromhex(one.color), 255) for one in colors.classes}
                dataset.write_colormap(1, palette)
        yield memory


def write_qml(path: Path, legend: Legend) -> None:
    """Write a QGIS style for a class map: ``map.qml`` beside ``map.tif`` applies by itself."""
    entries = "\n".join(
        f'<paletteEntry value="{one.value}" color="#{one.color.lower()}" '
        f'label={quoteattr(one.title)} alpha="255"/>'
        for one in legend.classes
    )
    write_text(
        Path(path),
        "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n"
        '<qgis version="3.22"><pipe><rasterrenderer type="paletted" band="1" opacity="1" '
        f'alphaBand="-1" nodataColor=""><colorPalette>\n{entries}\n'
        "</colorPalette></rasterrenderer></pipe><blendMode>0</blendMode></qgis>\n",
    )
