"""From arrays to tensors: the only door into the model, and the place where units are checked."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.nn import functional as F

from msgfm.errors import InputError, InputSizeError, InputUnitError, SensorError
from msgfm.sensors import Band, bands_of, sensor

OUT_OF_RANGE = 0.001
"""Share of valid cells outside the sensor's range above which the unit is taken to be wrong."""

STORED = 5.0
"""Multiple of the largest value from which on numbers look like stored integers."""

FAR = 4.0
"""Standard deviations between a band's mean and its typical value that raise a warning."""

Change = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Batch:
    """Co-registered images of B places by one or more sensors, on one grid each."""

    values: dict[str, Tensor]
    """Sensor -> (B, C, H, W) float32 in physical units, all bands of the table; 0 where invalid."""

    valid: dict[str, Tensor]
    """Sensor -> (B, C, H, W) bool, True where data is present."""

    gsd_m: dict[str, Tensor]
    """Sensor -> (B,) metres at the sensor."""

    day: dict[str, Tensor]
    """Sensor -> (B,) day of year 1 to 366, NaN where unknown."""

    maps: dict[str, Tensor] = field(default_factory=dict)
    """Map -> (B, H, W) int64 class index, -1 where unknown. Targets only, never an input."""

    def __post_init__(self) -> None:
        shapes = {tuple(map(int, v.shape[:1] + v.shape[2:])) for v in self.values.values()}
        if len(shapes) != 1:
            raise InputSizeError(
                f"all sensors of a batch need the same B, H, W; got {sorted(shapes)}. "
                "Resample them to one grid first"
            )
        # Broadcasting would hide parts that do not belong to the values.
        for short, values in self.values.items():
            valid = self.valid.get(short)
            if valid is None or valid.shape != values.shape or valid.dtype != torch.bool:
                raise InputError(
                    f"sensor {short}: valid must be bool of the shape of the values, "
                    f"{tuple(values.shape)}, got {_told(valid)}"
                )
            for name, column in (("gsd_m", self.gsd_m.get(short)), ("day", self.day.get(short))):
                if column is None or column.shape[:1] != values.shape[:1]:
                    raise InputError(
                        f"sensor {short}: {name} must hold one number per place, {len(values)}, "
                        f"got {_told(column)}"
                    )

    def __len__(self) -> int:
        return int(next(iter(self.values.values())).shape[0])

    @property
    def sensors(self) -> tuple[str, ...]:
        """Short names of the sensors present."""
        return tuple(self.values)

    @property
    def shape_yx(self) -> tuple[int, int]:
        """Height and width in pixels."""
        height, width = next(iter(self.values.values())).shape[-2:]
        return int(height), int(width)

    @property
    def seen(self) -> Tensor:
        """(B,) bool, True where some pixel of some sensor is valid."""
        return torch.stack([one.flatten(1).any(1) for one in self.valid.values()]).any(0)

    def only(self, *sensors: str) -> Batch:
        """Return the batch with these sensors alone."""
        missing = [name for name in sensors if name not in self.values]
        if missing or not sensors:
            raise SensorError(
                f"the batch has no sensor {missing}; it has: {', '.join(self.values)}"
            )
        columns = (self.values, self.valid, self.gsd_m, self.day)
        values, valid, gsd_m, day = ({name: one[name] for name in sensors} for one in columns)
        return Batch(values=values, valid=valid, gsd_m=gsd_m, day=day, maps=self.maps)

    def rows(self, index: Tensor | slice) -> Batch:
        """Return some of the places."""
        return self.changed(lambda t: t[index], lambda t: t[index])

    def window(self, rows: slice, columns: slice) -> Batch:
        """Return some of the pixels."""
        return self.changed(lambda t: t[..., rows, columns], lambda t: t)

    def to(self, device: torch.device | str) -> Batch:
        """Return the batch on another device."""

        def send(one: Tensor) -> Tensor:
            return one.to(device, non_blocking=True)

        return self.changed(send, send)

    def changed(self, image: Change, place: Change) -> Batch:
        """Return every image (maps too) by one function, and every column of places by another."""

        def each(columns: dict[str, Tensor], change: Change) -> dict[str, Tensor]:
            return {name: change(one) for name, one in columns.items()}

        return Batch(
            values=each(self.values, image),
            valid=each(self.valid, image),
            gsd_m=each(self.gsd_m, place),
            day=each(self.day, place),
            maps=each(self.maps, image),
        )

    def padded(self, stride: int) -> Batch:
        """Return the images with invalid pixels below and to the right, up to whole strides."""
        height, width = self.shape_yx
        margin = (0, -width % stride, 0, -height % stride)
        if not any(margin):
            return self
        return Batch(
            values={k: F.pad(v, margin) for k, v in self.values.items()},
            valid={k: F.pad(v, margin) for k, v in self.valid.items()},
            gsd_m=self.gsd_m,
            day=self.day,
        )


def _told(given: Tensor | None) -> str:
    return "nothing" if given is None else f"{given.dtype} of shape {tuple(given.shape)}"


def batch_of(
    arrays: Mapping[str, ArrayLike],
    *,
    bands: Mapping[str, Sequence[str]] | None = None,
    valid: Mapping[str, ArrayLike] | None = None,
    gsd_m: Mapping[str, float | ArrayLike] | None = None,
    day: Mapping[str, float | ArrayLike] | None = None,
    maps: Mapping[str, ArrayLike] | None = None,
) -> Batch:
    """Check arrays and put their bands in the table's order.

    Parameters
    ----------
    arrays
        Sensor's short name -> (B, C, H, W) in physical units: ``rgb`` 0 to 1, ``s2`` reflectance,
        ``sar`` decibels (VV, VH), ``dsm`` metres. Cells that are not finite are invalid, and so are
        cells outside the sensor's range while they are fewer than one in a thousand of a band.
    bands
        Names (``B04`` or ``red``) of the bands given, for a subset or another order; without
        them the number of bands must be that of a level of the sensor (13 or 12 for ``s2``).
    valid
        True where data is present, (B, C, H, W); axes of length 1 count for the whole axis.
    gsd_m
        Metres at the sensor, one number or one per place; the table's when absent.
    day
        Day of year, one number or one per place; unknown when absent.
    maps
        Name -> (B, H, W) whole numbers: classes of land cover or the like, counted from 0, -1
        where unknown. Targets of pretraining only: an encoder never sees them.

    Raises
    ------
    SensorError, InputUnitError, InputSizeError, InputError
        A sensor or band that the table lacks, values of another unit, sensors on different grids,
        a place where nothing is valid.
    """
    if not arrays:
        raise InputError("a batch needs at least one sensor; got none")
    foreign = {name for about in (bands, valid, gsd_m, day) for name in about or ()} - set(arrays)
    if foreign:
        raise InputError(f"{sorted(foreign)} is described, but has no array; got {[*arrays]}")
    parts = {
        short: _one(short, array, (bands or {}).get(short), (valid or {}).get(short))
        for short, array in arrays.items()
    }
    # Ground size and date go in as numbers (msGFM has neither): one image may come at many scales,
    # and a field in May is another than in August. The sensor's finest size is the usual one.
    first = next(iter(parts.values()))[0]
    finest = {short: min(band.gsd_m for band in bands_of(short)) for short in parts}
    batch = Batch(
        values={short: torch.from_numpy(part[0]) for short, part in parts.items()},
        valid={short: torch.from_numpy(part[1]) for short, part in parts.items()},
        gsd_m={s: _per_place((gsd_m or {}).get(s, finest[s]), len(first), s) for s in parts},
        day={s: _per_place((day or {}).get(s, np.nan), len(first), s) for s in parts},
        maps={name: _map(name, chart, first.shape) for name, chart in (maps or {}).items()},
    )
    _refuse_impossible(batch)
    return batch


def _one(
    short: str, array: ArrayLike, names: Sequence[str] | None, valid: ArrayLike | None
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    given = np.asarray(array, dtype=np.float32)
    if given.ndim != 4 or 0 in given.shape:
        raise InputError(
            f"sensor {short}: shape must be (B, C, H, W) without empty axes, got {given.shape}"
        )
    order = _positions(short, given.shape[1], names)
    # Missing is one thing (decision 0005): a cell without data, a band that is not given and
    # padding are all 0 with valid False, and nothing behind this door can tell them apart.
    known = np.isfinite(given)
    if valid is not None:
        known &= _spread(short, np.asarray(valid, dtype=np.bool_), given.shape)
    table = bands_of(short)
    values = np.zeros((given.shape[0], len(table), *given.shape[2:]), np.float32)
    mask = np.zeros(values.shape, np.bool_)
    for i, position in enumerate(order):
        mask[:, position] = _in_range(short, table[position], given[:, i], known[:, i])
        values[:, position] = np.where(mask[:, position], given[:, i], 0)
    _refuse_linear_power(short, table, values, mask)
    _warn_if_odd(short, table, values, mask)
    return values, mask


def _spread(short: str, valid: NDArray[np.bool_], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    fits = len(valid.shape) == 4 and all(
        v in (1, n) for v, n in zip(valid.shape, shape, strict=True)
    )
    if not fits:
        raise InputError(
            f"sensor {short}: valid must be (B, C, H, W) as the values, {shape}, or 1 along an "
            f"axis; got {valid.shape}"
        )
    return np.broadcast_to(valid, shape)


def _positions(short: str, count: int, names: Sequence[str] | None) -> list[int]:
    levels = sensor(short).levels
    if names is None:
        names = next((level for level in levels if len(level) == count), None)
    if names is None:
        allowed = " or ".join(str(len(level)) for level in levels)
        raise InputError(
            f"sensor {short} has {allowed} bands, got {count}; for a subset name them: "
            f"bands={{'{short}': [...]}}"
        )
    if len(names) != count:
        raise InputError(f"sensor {short}: {count} bands but {len(names)} band names")
    table = sensor(short)
    found = [table.bands.index(table.band(name)) for name in names]
    if len(set(found)) != len(found):
        raise InputError(f"sensor {short}: a band is named twice in {list(names)}")
    return found


def _in_range(
    short: str, band: Band, values: NDArray[np.float32], known: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    with np.errstate(invalid="ignore"):
        good = known & (values >= band.valid_min) & (values <= band.valid_max)
    # A few wild cells are sensor noise and become missing. Many are a mistake of unit, which no
    # later step would notice: a network gives features of any numbers.
    share = 1 - good.sum() / max(known.sum(), 1)
    if share > OUT_OF_RANGE and known.any():
        low, high = values[known].min(), values[known].max()
        advice = "Convert them, clip overshoots, or mark no-data cells as invalid"
        if band.scale != 1 and high > STORED * band.valid_max:
            advice = (
                f"These look like stored numbers: multiply by {band.scale:g}, add {band.offset:g}"
            )
        raise InputUnitError(
            f"sensor {short}, band {band.name}: values from {low:.4g} to {high:.4g}, but the unit "
            f"{band.unit!r} allows {band.valid_min:g} to {band.valid_max:g}. {advice}"
        )
    return good


def _refuse_linear_power(
    short: str, table: Sequence[Band], values: NDArray[np.float32], mask: NDArray[np.bool_]
) -> None:
    """Refuse decibels that are never negative: linear power lies inside the range of decibels."""
    if all(band.unit == "dB" for band in table) and mask.any() and values[mask].min() >= 0:
        raise InputUnitError(
            f"sensor {short}: values from {values[mask].min():.4g} to {values[mask].max():.4g}; "
            "some decibels of land are negative. Linear power becomes decibels by 10 * log10(x)"
        )


def _warn_if_odd(
    short: str, table: Sequence[Band], values: NDArray[np.float32], mask: NDArray[np.bool_]
) -> None:
    # Swapped bands and forgotten offsets stay inside the range, so only the mean can betray them.
    # It is not proof, so this warns. Relief has no usual mean.
    counts = mask.sum(axis=(0, 2, 3))
    means = values.sum(axis=(0, 2, 3), dtype=np.float64) / np.maximum(counts, 1)
    relief = [band.unit == "m" for band in table]
    far = [
        abs(mean - band.mean) > FAR * band.std and count > 0 and not height
        for mean, band, count, height in zip(means, table, counts, relief, strict=True)
    ]
    if any(far):
        odd = ", ".join(f"{b.name} {m:.3g}" for b, m, f in zip(table, means, far, strict=True) if f)
        _warn(
            f"sensor {short}: mean of {odd} is far from what is usual; suspect swapped bands, "
            "a missing offset, or snow and cloud"
        )
    # Land scatters more power back in the polarisation that was sent than across it.
    if short == "sar" and min(counts[:2]) > 0 and means[0] < means[1]:
        _warn(
            f"sensor sar: VV ({means[0]:.1f} dB) is below VH ({means[1]:.1f} dB); "
            "suspect that the two bands are swapped"
        )


def _warn(text: str) -> None:
    """Warn at the line that called into this package, whichever of its doors it took."""
    # torch's frames count as ours: it wraps `Encoder.embed` to switch gradients off
    ours = ("msgfm.", "torch.")
    frame, level = inspect.currentframe(), 0
    while frame is not None and frame.f_globals.get("__name__", "").startswith(ours):
        frame, level = frame.f_back, level + 1
    warnings.warn(text, stacklevel=level + 1)


def _per_place(given: float | ArrayLike, count: int, short: str) -> Tensor:
    array = np.asarray(given, dtype=np.float32)
    if array.ndim > 1 or (array.ndim == 1 and len(array) != count):
        raise InputError(
            f"sensor {short}: one number or {count} are needed, got shape {array.shape}"
        )
    return torch.from_numpy(np.broadcast_to(array, (count,)).copy())


def _map(name: str, given: ArrayLike, shape: tuple[int, ...]) -> Tensor:
    classes, wanted = np.asarray(given), (shape[0], *shape[2:])
    if classes.shape != wanted or classes.dtype.kind not in "iu":
        raise InputError(
            f"map {name}: classes must be whole numbers of shape (B, H, W) as the images, "
            f"{wanted}; got {classes.dtype} of shape {classes.shape}"
        )
    if int(classes.min()) < -1:
        raise InputError(
            f"map {name}: classes count from 0, and -1 is unknown; got {classes.min()}"
        )
    return torch.from_numpy(classes.astype(np.int64))


def _refuse_impossible(batch: Batch) -> None:
    for short in batch.sensors:
        gsd_m, day = batch.gsd_m[short], batch.day[short]
        if not bool((torch.isfinite(gsd_m) & (gsd_m > 0)).all()):
            raise InputError(f"sensor {short}: gsd_m must be > 0 metres, got {gsd_m.tolist()}")
        if not bool((torch.isnan(day) | ((day >= 1) & (day < 367))).all()):
            raise InputError(
                f"sensor {short}: day must be a day of the year, 1 to 366, or NaN where unknown; "
                f"got {day.tolist()}"
            )
    # an image without any valid pixel would get features all the same, of nothing
    if not bool(batch.seen.all()):
        empty = (~batch.seen).nonzero().flatten().tolist()
        raise InputError(f"no pixel is valid at places {empty[:10]}; leave them out")
