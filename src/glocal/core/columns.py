"""Tables kept as columns in a frozen value: choose rows, or put tables under each other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")


def chosen(table: T, rows: NDArray[Any], names: Iterable[str]) -> T:
    """Return a table with only some rows, by a boolean or index array.

    ``names`` are its columns: arrays with one row each, None for a column that is absent, or a
    mapping of further columns. An empty array (no column was given) stays. Rows that are not
    there raise `IndexError`.
    """
    return replace(table, **{name: _chosen(getattr(table, name), rows) for name in names})  # type: ignore[type-var]


def _chosen(column: Any, rows: NDArray[Any]) -> Any:
    if isinstance(column, Mapping):
        return {name: _chosen(values, rows) for name, values in column.items()}
    return column if column is None or not len(column) else column[rows]


def stacked(tables: Sequence[T], names: Iterable[str], further: str = "") -> T:
    """Return tables under each other; what is no column is that of the first.

    ``further`` names the mapping of further columns: one that a table lacks is filled up, with
    NaN, or with empty text.
    """
    columns: dict[str, Any] = {
        name: np.concatenate([np.asarray(getattr(one, name)) for one in tables]) for name in names
    }
    if further:
        mappings = [getattr(one, further) for one in tables]
        kinds = {name: one.dtype for held in reversed(mappings) for name, one in held.items()}
        sizes = [len(one) for one in tables]  # type: ignore[arg-type]
        columns[further] = {
            name: np.concatenate(
                [
                    held[name]
                    if name in held
                    else np.full(n, np.nan if kind.kind == "f" else "", kind)
                    for held, n in zip(mappings, sizes, strict=True)
                ]
            )
            for name, kind in kinds.items()
        }
    return replace(tables[0], **columns)  # type: ignore[type-var]
