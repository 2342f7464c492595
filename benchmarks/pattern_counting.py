"""Counting patterns of statements: our kernels beside group-by of Polars, DuckDB and NumPy.

    env POLARS_MAX_THREADS=1 OMP_NUM_THREADS=1 python -m benchmarks.pattern_counting
        [--data DIR] [--repeat 5] [--save pattern_counting]

The planes of the demo area as the engine sees them (symbols of maps and rules, painted objects),
once and laid side by side six times four; and eight tiles of `benchmarks.fusion_speed`.
All by one thread, best of some runs, from planes in memory to distinct rows with their counts;
each method must find the same patterns. Polars and DuckDB are asked in the two ways that there
are: to group by all planes, or by the number that our kernel makes of them, which is counted in.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
from numpy.typing import NDArray

from benchmarks.fusion_speed import coherent, radix_of
from benchmarks.stored import Column, Table, add_save, keep
from glocal.core.burn import burn
from glocal.fusion.tiles.counting import Coding, Counter
from glocal.loop.area.area import read_area
from glocal.loop.demo import demo_config, demo_points, find_data

Stack = NDArray[np.uint16]


def demo_planes(data: Path | None) -> Stack:
    """Return what every source of the demo area says in each cell, (S, H, W)."""
    area = read_area(demo_config(find_data(data), demo_points()), lambda what, share: None)
    planes = []
    for one in area.observations:
        if one.support == "cells":
            planes.append(one.symbols)
        elif one.support != "points":
            symbol = np.append(0, one.symbols)
            planes.append(symbol[burn(one.geometry, one.geobox)])
    return np.stack(planes).astype(np.uint16)


def ours(stack: Stack, coding: Coding) -> int:
    counter = Counter(coding, 2**24)
    counter.add(stack, whole(stack))
    return len(counter.patterns())


def whole(stack: Stack) -> tuple[slice, slice]:
    return slice(0, stack.shape[1]), slice(0, stack.shape[2])


def numpy_unique(stack: Stack, coding: Coding) -> int:
    return len(np.unique(coding.encode(stack, whole(stack)), return_counts=True)[0])


def polars_planes(stack: Stack, coding: Coding) -> int:
    frame = pl.DataFrame({f"p{i}": plane.ravel() for i, plane in enumerate(stack)})
    return len(frame.group_by(frame.columns).len())


def polars_code(stack: Stack, coding: Coding) -> int:
    frame = pl.DataFrame({"code": coding.encode(stack, whole(stack)).ravel()})
    return len(frame.group_by("code").len())


def duckdb_planes(stack: Stack, coding: Coding) -> int:
    planes = {f"p{i}": plane.ravel() for i, plane in enumerate(stack)}
    return _grouped(planes)


def duckdb_code(stack: Stack, coding: Coding) -> int:
    return _grouped({"code": coding.encode(stack, whole(stack)).ravel()})


def _grouped(planes: dict[str, NDArray[np.generic]]) -> int:
    names = ", ".join(planes)
    with duckdb.connect(config={"threads": 1}) as base:
        base.register("cells", planes)
        counted = base.sql(f"select {names}, count(*) as n from cells group by {names}")
        return len(counted.fetchnumpy()["n"])


METHODS: dict[str, Callable[[Stack, Coding], int]] = {
    "ours": ours,
    "Polars, planes": polars_planes,
    "Polars, code": polars_code,
    "DuckDB, planes": duckdb_planes,
    "DuckDB, code": duckdb_code,
    "numpy.unique, code": numpy_unique,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--repeat", type=int, default=5)
    add_save(parser)
    wanted = parser.parse_args()
    demo = demo_planes(wanted.data)
    grounds = {"demo": (demo, None), "demo, 6 x 4": (np.tile(demo, (1, 4, 6)), None)}
    for alphabet in ("small", "large"):
        rng = np.random.default_rng(0)
        drawn = np.concatenate([coherent(alphabet, rng) for _ in range(8)], axis=1)
        grounds[f"{alphabet} alphabets"] = (drawn.astype(np.uint16), radix_of(alphabet))
    rows = []
    for ground, (stack, radix) in grounds.items():
        radix = radix or tuple(int(one.max()) + 1 for one in stack)
        coding = Coding(radix=radix, region=max(stack.shape[1:]), shape=stack.shape[1:])
        cells, found = stack.shape[1] * stack.shape[2], {}
        for name, method in METHODS.items():
            best = np.inf
            for _ in range(wanted.repeat):
                start = time.perf_counter()
                found[name] = method(stack, coding)
                best = min(best, time.perf_counter() - start)
            rows.append((ground, name, cells, found[name], cells / best / 1e6))
        if len(set(found.values())) > 1:
            raise SystemExit(f"{ground}: methods differ: {found}")
    numbers = (("cells", 0), ("patterns", 0), ("million cells per second", 1))
    columns = (
        Column(name="ground"),
        Column(name="method"),
        *(Column(name=name, digits=digits) for name, digits in numbers),
    )
    keep(wanted.save, {"rates": Table(columns=columns, rows=tuple(rows))}, seeds=(0,))


if __name__ == "__main__":
    main()
