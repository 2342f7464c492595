"""Pictures of the report: maps, charts and crops, as data URIs that need no other file.

The same input gives the same bytes: no pyplot state, no user style, no dates in the
images. Colours are safe for colour-blind readers; meaning never hangs on colour alone.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.style
import numpy as np
import rasterio
import shapely
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image, ImageColor, ImageDraw
from rasterio.enums import Resampling
from rasterio.io import DatasetReader
from rasterio.windows import Window

from glocal.core.typing import Bools, Bytes, Table
from glocal.errors import RunError

LONG_SIDE = 1000
"""Longest side of a map on the page, pixels."""

CROP_SIDE = 208
"""Side of the picture of one correction, pixels."""

CROP_CELLS = 28
"""A crop shows at least this many cells of the image, so that there is some context."""

SMOOTH = 4
"""Outlines are drawn this many times larger, then reduced."""

POINT_RADIUS = 9
"""Circle around a point, pixels of the crop."""

BLUE, ORANGE, GREY, INK = "#0072B2", "#D55E00", "#767676", "#222222"
STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.edgecolor": "#999999",
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.labelcolor": INK,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.axisbelow": True,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.7,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.0,
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MapView:
    """A raster, read at the size in which the page shows it."""

    values: NDArray[Any]
    """Shape (band, y, x), in the stored unit after scale and offset; 0 where invalid."""

    valid: Bools
    """Shape (y, x), True where every band has data."""

    crs: str
    """``EPSG:n``, or a short description where there is no such code."""

    size_xy: tuple[int, int]
    """Cells of the file, not of this view."""

    resolution: float
    """Side of a cell of the file, in units of the CRS."""

    bar: tuple[float, str] | None
    """Scale bar: share of the map's width, label. None when the CRS is not in metres."""

    palette: Mapping[int, str]
    """Colour table of the file, code to RRGGBB; empty when it has none."""

    integer: bool
    """True when the file stores integers without a scale."""


# ---------------------------------------------------------------- maps


def read_view(path: Path, *, categories: bool = False) -> MapView:
    """Read a raster decimated to at most ``LONG_SIDE`` cells, from its overviews if it has any.

    ``categories`` takes the nearest cell, otherwise cells are averaged. NaN and the
    file's nodata are invalid.

    Raises
    ------
    RunError
        When the file can't be read as a raster.
    """
    try:
        with rasterio.open(path) as source:
            return _view(source, Resampling.nearest if categories else Resampling.average)
    except rasterio.errors.RasterioError as error:
        raise RunError(
            f"{path.name} can't be read as a raster ({error}); "
            "remove it and run the same command again, it will be written anew"
        ) from error


def _view(source: DatasetReader, resampling: Resampling) -> MapView:
    shrink = min(1.0, LONG_SIDE / max(source.width, source.height))
    shape = (max(1, round(source.height * shrink)), max(1, round(source.width * shrink)))
    data = source.read(out_shape=(source.count, *shape), resampling=resampling, masked=True)
    values = np.ma.getdata(data)
    bad = np.ma.getmaskarray(data) | ~np.isfinite(values)
    valid: Bools = np.logical_not(bad.any(axis=0))
    scale, offset = source.scales[0], source.offsets[0]
    plain = (scale, offset) == (1.0, 0.0)
    if not plain:
        values = values * scale + offset
    code = source.crs.to_epsg() if source.crs else None
    no_code = "a CRS without EPSG code" if source.crs else "no CRS"
    try:
        colours = source.colormap(1)
    except ValueError:  # it has none
        colours = {}
    return MapView(
        values=np.where(valid, values, 0),
        valid=valid,
        crs=f"EPSG:{code}" if code else no_code,
        size_xy=(source.width, source.height),
        resolution=abs(source.transform.a),
        bar=_scale_bar(source),
        palette={key: "{:02x}{:02x}{:02x}".format(*one[:3]) for key, one in colours.items()},
        integer=plain and np.issubdtype(np.dtype(source.dtypes[0]), np.integer),
    )


def _scale_bar(source: DatasetReader) -> tuple[float, str] | None:
    if not (source.crs and source.crs.is_projected):
        return None
    width = source.width * abs(source.transform.a)
    decade = 10.0 ** math.floor(math.log10(width / 3))
    length = max(step * decade for step in (1, 2, 5) if step * decade <= width / 3)
    return length / width, f"{length / 1000:g} km" if length >= 1000 else f"{length:g} m"


def class_map(view: MapView, colours: Mapping[int, str]) -> str:
    """Return a map of class codes as PNG; codes without a colour and no data are transparent."""
    lookup = np.zeros((256, 4), np.uint8)
    for code, colour in colours.items():
        lookup[code] = (*ImageColor.getrgb(f"#{colour}")[:3], 255)
    codes = np.where(view.valid, np.clip(view.values[0], 0, 255), 0).astype(np.uint8)
    rgba = lookup[codes]
    rgba[~view.valid] = 0
    return _uri(Image.fromarray(rgba).quantize(256, method=Image.Quantize.FASTOCTREE), "PNG")


def colour_map(view: MapView) -> str:
    """Return a quicklook (uint8; one band is shown as grey) as WebP."""
    if view.values.dtype != np.uint8:
        raise RunError(
            f"image.tif must be a uint8 quicklook, got {view.values.dtype}; "
            "remove it and run the same command again, it will be written anew"
        )
    bands = view.values[[0, 1, 2]] if len(view.values) >= 3 else view.values[[0, 0, 0]]
    alpha = np.where(view.valid, 255, 0).astype(np.uint8)
    return _uri(Image.fromarray(np.dstack([*bands, alpha])), "WEBP")


def ramp_map(values: NDArray[Any], valid: Bools, top: float, *, invert: bool) -> str:
    """Return values 0..``top``, shape (y, x), as WebP in the ramp of ``ramp_css``."""
    index = np.clip(np.nan_to_num(values) / top * 255, 0, 255).astype(np.uint8)
    colour = _ramp(invert)[index]
    alpha = np.where(valid, 255, 0).astype(np.uint8)
    return _uri(Image.fromarray(np.dstack([colour, alpha])), "WEBP")


def ramp_css(*, invert: bool) -> str:
    """Return the colour ramp as a CSS gradient, low values at the left."""
    stops = ",".join("#{:02x}{:02x}{:02x}".format(*colour) for colour in _ramp(invert)[::51])
    return f"linear-gradient(to right,{stops})"


def _ramp(invert: bool) -> Bytes:
    name = "cividis_r" if invert else "cividis"
    colours = matplotlib.colormaps[name](np.arange(256))
    return (np.asarray(colours)[:, :3] * 255).round().astype(np.uint8)


# ---------------------------------------------------------------- crops of corrections


def crops(image: Path, geometries: Sequence[Any]) -> list[tuple[str, float] | None]:
    """Return a picture and its width on the ground for each geometry (in the image's CRS).

    None for a geometry that is missing, empty or outside the image.
    """
    with rasterio.open(image) as source:
        return [_crop(source, one) for one in geometries]


def _crop(source: DatasetReader, geometry: Any) -> tuple[str, float] | None:
    frame = shapely.box(*source.bounds)
    if geometry is None or geometry.is_empty or not frame.intersects(geometry):
        return None
    inside = shapely.transform(geometry.intersection(frame), lambda xy: _to_cells(source, xy))
    # Some room around the geometry, inside the image.
    left, top, right, bottom = inside.bounds
    wanted = math.ceil(max(1.5 * (right - left), 1.5 * (bottom - top), CROP_CELLS))
    side = min(wanted, source.width, source.height)
    column = min(max(round((left + right - side) / 2), 0), source.width - side)
    row = min(max(round((top + bottom - side) / 2), 0), source.height - side)
    colour = source.read(
        (1, 2, 3) if source.count >= 3 else (1, 1, 1),
        window=Window(column, row, side, side),
        out_shape=(3, CROP_SIDE, CROP_SIDE),
        resampling=Resampling.nearest,
    )
    picture = Image.fromarray(np.ascontiguousarray(np.moveaxis(colour, 0, -1)))
    scale = CROP_SIDE / side
    _outline(
        picture,
        shapely.transform(geometry, lambda xy: (_to_cells(source, xy) - (column, row)) * scale),
    )
    return _uri(picture, "WEBP"), side * abs(source.transform.a)


def _to_cells(source: DatasetReader, xy: Table) -> Any:
    """Return (column, row) of points on a north-up grid."""
    transform = source.transform
    return (xy - (transform.c, transform.f)) / (transform.a, transform.e)


def _outline(picture: Image.Image, geometry: Any) -> None:
    """Draw a geometry that is in pixels of the picture, smoothed by drawing it larger."""
    overlay = Image.new("RGBA", (SMOOTH * picture.width, SMOOTH * picture.height))
    draw = ImageDraw.Draw(overlay)
    lines: list[Any] = []
    for part in shapely.get_parts(geometry):
        # A circle around a point, a line as it is, of a polygon its rings.
        kinds = (part.buffer(POINT_RADIUS).boundary, part, part.boundary)
        lines += shapely.get_parts(kinds[max(int(shapely.get_dimensions(part)), 0)]).tolist()
    strokes = [(SMOOTH * shapely.get_coordinates(one)).ravel().tolist() for one in lines]
    for colour, width in (("#000000", 5), ("#FFE14D", 2.5)):
        for line in strokes:
            draw.line(line, fill=colour, width=round(SMOOTH * width), joint="curve")
    small = overlay.resize(picture.size, Image.Resampling.BOX)
    picture.paste(small, mask=small)


# ---------------------------------------------------------------- charts


@contextmanager
def _figure(width: float, height: float) -> Iterator[Figure]:
    with matplotlib.style.context(["default", STYLE]):
        figure = Figure(figsize=(width, height), dpi=170, layout="constrained")
        FigureCanvasAgg(figure)
        yield figure


def _colour(low: float, high: float) -> str:
    """Blue for a gain, orange for a loss, grey when the interval holds zero."""
    return BLUE if low > 0 else ORANGE if high < 0 else GREY


def gains_chart(rows: Sequence[tuple[str, float, float, float, float, float]]) -> str:
    """Return the chart of (name, before, after, gain, low, high) as PNG, first row on top."""
    with _figure(9, 0.8 + 0.36 * len(rows)) as figure:
        left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
        for y, (_, before, after, gain, low, high) in enumerate(rows):
            colour = _colour(low, high)
            arrow = {"arrowstyle": "-|>", "color": colour, "lw": 1.6}
            left.annotate("", (after, y), (before, y), arrowprops=arrow)
            left.plot(before, y, "o", mfc="white", mec=colour, ms=5.5, mew=1.3)
            left.plot(after, y, "o", color=colour, ms=5.5)
            _interval(right, y, gain, low, high)
        left.set_title("Score before (open) and after (filled)")
        right.set_title("Gain, with its interval")
        _rows(left, [row[0] for row in rows])
        left.grid(axis="x")
        right.axvline(0, color=INK, lw=0.8)
        right.grid(axis="x")
        right.spines["left"].set_visible(False)
        return _png(figure)


def baseline_chart(rows: Sequence[tuple[str, float, float, float]]) -> str:
    """Return the chart of (name, difference, low, high), loop minus baseline, as PNG."""
    with _figure(9, 0.8 + 0.32 * len(rows)) as figure:
        axes = figure.subplots()
        for y, (_, difference, low, high) in enumerate(rows):
            _interval(axes, y, difference, low, high)
        axes.axvline(0, color=INK, lw=0.8)
        axes.set_title("Accuracy of the loop minus that of the baseline, on the same points")
        _rows(axes, [row[0] for row in rows])
        axes.grid(axis="x")
        return _png(figure)


def calibration_chart(bins: Sequence[tuple[float, float, int]]) -> str:
    """Return the chart of bins (confidence, accuracy, count) as PNG."""
    confidence, accuracy, count = (np.array(column, float) for column in zip(*bins, strict=True))
    with _figure(4.6, 4.6) as figure:
        top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
        top.plot([0, 1], [0, 1], "--", color=GREY, lw=0.9)
        error = np.sqrt(accuracy * (1 - accuracy) / np.maximum(count, 1))
        top.errorbar(confidence, accuracy, error, fmt="o-", color=BLUE, ms=5, lw=1.2, elinewidth=1)
        top.set(xlim=(0, 1), ylim=(0, 1.02), ylabel="Share that is right")
        top.grid()
        bottom.bar(confidence, count, width=0.045, color="#9DBFD6")
        for x, n in zip(confidence, count, strict=True):
            bottom.text(x, n, f"{n:.0f}", ha="center", va="bottom", fontsize=7.5)
        bottom.set(xlabel="Stated probability", ylabel="Points", ylim=(0, count.max() * 1.35 + 1))
        return _png(figure)


def _interval(axes: Axes, y: float, value: float, low: float, high: float) -> None:
    colour = _colour(low, high)
    axes.plot([low, high], [y, y], color=colour, lw=1.6, solid_capstyle="butt")
    axes.plot(value, y, "D" if colour == GREY else "o", color=colour, ms=5.5)


def _rows(axes: Axes, names: Iterable[str]) -> None:
    short = (one if len(one) <= 32 else f"{one[:31]}…" for one in names)
    shown = [one.replace("$", r"\$") for one in short]  # no mathematics
    axes.set_yticks(range(len(shown)), shown)
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.margins(x=0.08)
    axes.spines["left"].set_visible(False)


def _png(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    with Image.open(buffer) as picture:
        # 64 colours are plenty for a chart and make it a third of the size.
        return _uri(picture.convert("RGB").quantize(64, dither=Image.Dither.NONE), "PNG")


def _uri(picture: Image.Image, form: str) -> str:
    buffer = io.BytesIO()
    options: dict[str, Any] = {"optimize": True} if form == "PNG" else {"quality": 80, "method": 4}
    picture.save(buffer, form, **options)
    return f"data:image/{form.lower()};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
