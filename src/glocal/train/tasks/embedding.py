"""Images on disk to vectors: one per window of every capture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from glocal.errors import BadSourceError, ConfigError
from glocal.io.atomic import replacing
from glocal.train.data.captures import Capture, chip_on, gsd_m
from glocal.train.data.finding import captures
from msgfm import Encoder

SUFFIXES = (".npz", ".parquet")
COLUMNS = ("vectors", "image", "sensor", "crs", "row", "column", "x", "y")


def embed_images(
    images: Sequence[Path], encoder: Encoder, *, side: int = 64
) -> dict[str, NDArray[Any]]:
    """Embed every capture that files or folders hold, window by window.

    Windows of ``side`` pixels do not overlap; what an edge cuts off counts as missing, and
    windows without any valid pixel are left out. Returns columns with a row per window:
    ``vectors`` (N, D), ``image`` and ``sensor``, first ``row`` and ``column`` of the window in
    pixels of the capture's finest band, and its centre ``x`` and ``y`` in ``crs``.

    Raises
    ------
    BadSourceError
        No window is left, or as :func:`glocal.train.data.finding.captures` says.
    """
    rows = [row for path in images for one in captures(path) for row in _rows(one, encoder, side)]
    if not rows:
        raise BadSourceError(
            f"no valid pixel in {', '.join(map(str, images))}; rasters, STAC items and Zarr "
            "stores are read, see glocal.train.data.finding"
        )
    columns = zip(*rows, strict=True)
    return {name: np.array(one) for name, one in zip(COLUMNS, columns, strict=True)}


def _rows(capture: Capture, encoder: Encoder, side: int) -> Iterator[tuple[object, ...]]:
    """Yield the fields of the windows of a capture; a strip of ``side`` rows is read at a time."""
    grid, name = capture.grid, capture.sensor
    for top in range(0, grid.shape.y, side):
        chip = chip_on(capture, grid[top : min(top + side, grid.shape.y), :])
        height, width = chip.geobox.shape
        values = np.full((len(chip.bands), side, -(-width // side) * side), np.nan, np.float32)
        values[:, :height, :width] = np.where(chip.valid, chip.values, np.nan)
        windows = values.reshape(len(values), side, -1, side).transpose(2, 0, 1, 3)
        some = np.flatnonzero(np.isfinite(windows).any(axis=(1, 2, 3)))
        if not len(some):
            continue
        vectors = encoder.embed(
            {name: windows[some]},
            bands={name: chip.band_names},
            gsd_m={name: gsd_m(grid)},
            day={name: capture.day},
        )
        for i, vector in zip(some.tolist(), vectors.cpu().numpy(), strict=True):
            column = i * side
            x, y = grid.transform * (column + side / 2, top + side / 2)
            yield vector, capture.name, name, str(grid.crs), top, column, x, y


def write_vectors(path: Path, found: dict[str, Any]) -> None:
    """Write a ``.parquet`` table (one row per window) or an ``.npz`` archive of the same columns.

    Another suffix is a ConfigError.
    """
    if path.suffix not in SUFFIXES:
        raise ConfigError(f"--out {path}: the suffix must be one of {', '.join(SUFFIXES)}")
    with replacing(path) as part:
        if path.suffix == ".npz":
            np.savez_compressed(part, **found)
            return
        rest = {name: column for name, column in found.items() if name != "vectors"}
        flat = pa.array(found["vectors"].ravel())
        vectors = pa.FixedSizeListArray.from_arrays(flat, found["vectors"].shape[1])
        pq.write_table(pa.table({**rest, "vector": vectors}), part)
