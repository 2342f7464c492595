"""What somebody hands over, read as words: arrays, xarray, columns, frames of points, of answers.

Whole numbers are positions in ``classes``, or codes where a ``meaning`` is given; -1, NaN, None,
empty texts, masked cells and the nodata of an xarray say nothing; texts are names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from glocal.api.layout import Cells, Items, Layout
from glocal.core.legend import ClassDef, Crosswalk, Legend
from glocal.errors import BadSourceError, ConfigError, GridMismatchError, LegendMismatchError
from glocal.io.labelled import CLASS, described, geobox_of

Meaning = Mapping[Any, str | Mapping[str, float] | None]
"""Per word of a source: a class, shares of classes, or None where nobody knows."""

COLOURS = (
    "4477AA", "EE6677", "228833", "CCBB44", "66CCEE", "AA3377", "BBBBBB",
    "332288", "DDCC77", "117733", "88CCEE", "882255",
)  # fmt: skip
"""Colours that people with colour blindness tell apart (Tol 2021), repeated beyond twelve."""

ANSWER = ("task", "worker", "label")
"""Columns of a table with one row per answer, as crowd-kit has them."""

TRUST = 0.7
"""How far a word is believed to mean its class before any data is seen."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Words:
    """What a source says, each different word once."""

    source: str
    word: NDArray[np.int64]
    """Position in ``known``, -1 where nothing is said; shape as handed over."""

    known: tuple[Any, ...]
    """The different words: all of them texts, or all of them whole numbers."""

    @property
    def names(self) -> bool:
        """True where the words are texts."""
        return bool(self.known) and isinstance(self.known[0], str)


def read(values: Any, source: str) -> Words:
    """Return the words in ``values``, an array, a column or an xarray of any shape.

    Raises
    ------
    BadSourceError
        Numbers that are not whole or below -1, or numbers and texts in one source.
    """
    array = np.ma.asarray(_plain(values))
    silent = np.ma.getmaskarray(array) | pd.isna(array.data)
    if isinstance(values, xr.DataArray):
        for key in ("nodata", "_FillValue"):
            silent |= array.data == {**values.encoding, **values.attrs}.get(key)
    said = array.data[~silent]
    if said.dtype.kind in "OU":
        kinds = {isinstance(one, str) for one in pd.unique(said)}
        if len(kinds) > 1:
            raise BadSourceError(
                f"{source}: words are either all texts or all numbers, got both; convert them: "
                ".astype(str)"
            )
        said = said.astype(str if kinds == {True} else np.float64)
    if said.dtype.kind == "U":
        silent[~silent] = said == ""
        said = said[said != ""]
    elif said.dtype.kind in "biuf":
        whole = said.astype(np.int64)
        wrong = pd.unique(said[(whole != said) | (whole < -1)])
        if len(wrong):
            raise BadSourceError(
                f"{source}: numbers are positions in classes, 0 or more, or -1 for nothing; got "
                f"{wrong[:3].tolist()}; probabilities need a dimension named {CLASS!r} (xarray)"
            )
        silent[~silent] = whole == -1
        said = whole[whole >= 0]
    else:
        raise BadSourceError(f"{source}: words must be whole numbers or texts, got {said.dtype}")
    code, known = pd.factorize(said, sort=True)
    word = np.full(array.shape, -1, np.int64)
    word[~silent] = code
    return Words(source=source, word=word, known=tuple(known.tolist()))


def _plain(values: Any) -> Any:
    if isinstance(values, pd.Series | pd.Index):
        # categories, strings and whole numbers with gaps are types of pandas' own
        own = isinstance(values.dtype, pd.api.extensions.ExtensionDtype)
        return values.astype(object).to_numpy() if own else values.to_numpy()
    return values.values if isinstance(values, xr.DataArray) else values


def legend_of(classes: Iterable[Any] | None, said: Sequence[Words]) -> Legend:
    """Return the classes: those given, or what ``said`` names, sorted, or counts up to.

    Raises
    ------
    ConfigError
        Fewer than 2 classes, more than 256, one of them twice, or words of both kinds and no
        ``classes``.
    """
    if classes is None:
        heard = [one for one in said if one.known]
        if len({one.names for one in heard}) > 1:
            raise ConfigError(
                "some sources say numbers and others names, so classes must be given in order: "
                "classes=['tree', 'water', ...]"
            )
        words = sorted({word for one in heard for word in one.known})
        numbers = words and not isinstance(words[0], str)
        classes = range(words[-1] + 1) if numbers else words
    names = [str(one) for one in classes]
    if not 2 <= len(names) <= 256 or len(set(names)) != len(names):
        raise ConfigError(
            f"classes must be 2 to 256 different names, got {len(names)}: {names[:8]}; name them "
            "all: classes=['tree', 'water', ...]"
        )
    return Legend(
        name="given",
        classes=tuple(
            ClassDef(value=i, name=name, title=name, color=COLOURS[i % len(COLOURS)])
            for i, name in enumerate(names)
        ),
    )


def crosswalk(said: Words, legend: Legend, meaning: Meaning | None) -> Crosswalk:
    """Return what the words of a source mean, believed as far as `TRUST`."""
    if meaning is None:
        return Crosswalk.from_shares(
            legend, {name: {name: 1.0} for name in legend.names}, confidence=TRUST
        )
    rows: dict[str, Mapping[str, float]] = {}
    for word, means in meaning.items():
        shares = {means: 1.0} if isinstance(means, str) else means or {}
        strangers = sorted(set(shares) - set(legend.names))
        if strangers:
            raise LegendMismatchError(
                f"meaning[{said.source!r}][{word!r}] names {', '.join(strangers)}; the classes are "
                f"{', '.join(legend.names)}"
            )
        rows[str(word)] = shares
    return Crosswalk.from_shares(legend, rows, confidence=TRUST)


def symbols(said: Words, alphabet: Sequence[Any]) -> NDArray[np.uint16]:
    """Return the position + 1 in ``alphabet`` of every word, 0 for silence, shape as handed over.

    Raises
    ------
    LegendMismatchError
        Names the words that the alphabet lacks.
    """
    if not said.names and all(isinstance(one, str) for one in alphabet):
        alphabet = range(len(alphabet))  # whole numbers are positions
    number = {word: i + 1 for i, word in enumerate(alphabet)}
    strangers = [word for word in said.known if word not in number]
    if strangers:
        raise LegendMismatchError(
            f"{said.source} says {strangers[:5]}, which are not among {list(number)[:12]}; name "
            f"more classes, or say what its words stand for: meaning={{{said.source!r}: "
            f"{{{strangers[0]!r}: 'a class', ...}}}}"
        )
    table = np.array([number[word] for word in said.known] + [0], np.uint16)
    return table[said.word]


def laid_out(sources: Any) -> tuple[Layout, dict[str, Any]]:
    """Return where the statements lie, and each source by name.

    ``sources`` is a mapping from names to arrays (H, W), to columns (n,), or to frames of points
    or answers; a frame with a column per source; a frame of answers; or an ``xarray.Dataset``.
    """
    if isinstance(sources, pd.DataFrame):
        columns = _workers(sources) if _is_answers(sources) else dict(sources.items())
        return _table({str(name): one for name, one in columns.items()})
    if isinstance(sources, xr.Dataset):
        sources = sources.data_vars
    given = {
        str(name): one if hasattr(one, "ndim") else np.asarray(one)
        for name, one in dict(sources).items()
    }
    arrays = {name: one for name, one in given.items() if not isinstance(one, pd.DataFrame)}
    if not arrays or all(one.ndim == 1 for one in arrays.values()):
        return _table(given)
    return _grid(arrays), given


def _is_answers(frame: pd.DataFrame) -> bool:
    return set(ANSWER) <= set(frame.columns)


def _workers(frame: pd.DataFrame, prefix: str = "") -> dict[str, pd.Series]:
    """Return a column (index: tasks) of what each worker said."""
    twice = frame.duplicated(["task", "worker"])
    if twice.any():
        first = frame[twice].iloc[0]
        raise BadSourceError(
            f"a worker answers a task once, {first.worker!r} answered {first.task!r} again "
            f"({int(twice.sum())} such rows); keep one answer: "
            "frame.drop_duplicates(['task', 'worker'], keep='last')"
        )
    wide = frame.pivot(index="task", columns="worker", values="label")
    return {f"{prefix}{worker}": wide[worker] for worker in wide.columns}


def _table(given: Mapping[str, Any]) -> tuple[Items, dict[str, Any]]:
    columns: dict[str, Any] = {}
    for name, one in given.items():
        if not isinstance(one, pd.DataFrame):
            columns[name] = one
        elif _is_answers(one):
            columns |= _workers(one, f"{name}/")
        else:
            raise BadSourceError(
                f"{name}: without a grid a frame holds answers, in the columns "
                f"{', '.join(ANSWER)}; got {', '.join(map(str, one.columns))}"
            )
    # columns that know their items meet on them
    try:
        frame = pd.DataFrame(columns)
    except ValueError as error:
        raise GridMismatchError(f"columns must have one length: {error}") from error
    if frame.index.has_duplicates:
        raise BadSourceError("items must be unique; call frame.reset_index(drop=True)")
    return Items(index=frame.index), dict(frame.items())


def _grid(arrays: Mapping[str, Any]) -> Cells:
    """Return the grid that all arrays share; those that know their place say where it is."""
    placed = {
        name: one.isel({CLASS: 0}, drop=True) if CLASS in one.dims else one
        for name, one in arrays.items()
        if isinstance(one, xr.DataArray)
    }
    shapes = {
        name: placed[name].shape if name in placed else one.shape[:2]
        for name, one in arrays.items()
    }
    first, shape = next(iter(shapes.items()))
    for name, other in shapes.items():
        if len(other) != 2 or other != shape:
            raise GridMismatchError(
                f"all sources must lie on one grid of rows and columns: {name} has the shape "
                f"{other}, {first} {shape}; resample one of them onto the other"
            )
    grid = Cells(place=next(iter(placed.values()), xr.DataArray(np.empty(shape), dims=("y", "x"))))
    for name, one in placed.items():
        if geobox_of(one) != grid.given:
            raise GridMismatchError(
                f"all sources must lie on one grid: {name} has {described(geobox_of(one))}; others "
                f"have {described(grid.given)}; resample one of them onto the other"
            )
    return grid
