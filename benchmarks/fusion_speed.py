"""Speed and memory of fusion in tiles, beside copying the same bytes and beside crowd-kit.

    env OMP_NUM_THREADS=1 python -m benchmarks.fusion_speed [--sizes 2048 8192 20480]
        [--workers 2] [--no-crowdkit] [--out out/fusion_speed] [--save fusion_speed]

Six sources, eight classes. ``small``: nine symbols each (9**6 patterns). ``large``: a map
of tags (200 in 4 strata), two land cover maps (44 and 11), a model (8 classes x 8 bins of
confidence), rules (5), in 100 regions; seven planes. ``coherent``: fields of classes with
errors in patches, parcels, silent patches and single wrong cells. ``incoherent``: every
cell is drawn by itself, which no ground is like: the worst case.

A pool of 16 tiles (16.8 million cells) is generated first and read again and again, as
reading files is the caller's. Every size, alphabet and kind runs in a process of its own.
Its memory is given before fusing (the interpreter and the pool, which no real run has) and
at its largest while fusing; the kernel's mark of the largest size is set back in between,
so this needs Linux. Rates are cells by the clock on the wall. The ratio is to
``np.copyto`` of the same planes into a buffer that is there already, in the same process,
by one thread: the best of five copies of the pool. Where rare patterns had to be merged,
decoding is not timed: nearly every cell is then a pattern of its own.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, zoom

from benchmarks.stored import Cell, Column, Table, add_save, keep
from glocal.core.interval import Interval
from glocal.core.legend import ClassDef, Crosswalk, Legend
from glocal.core.provenance import Provenance
from glocal.core.setting import ENGINE
from glocal.core.typing import Window
from glocal.fusion.decode.sweeps import SMOOTHING_SWEEPS
from glocal.fusion.estimate.posterior import class_prior, estimate
from glocal.fusion.problem.terms import locate, prepare, region_side
from glocal.fusion.reliability.dependence import conservative, families_of
from glocal.fusion.tiles import stream
from glocal.fusion.tiles.counting import Coding
from glocal.fusion.tiles.stream import TiledSource, count_tiles, fuse_stream
from glocal.io.atomic import write_json
from glocal.testing import grid

CLASSES, TILE, POOL = 8, 1024, 16
SIDE = TILE + 2 * SMOOTHING_SWEEPS
BETA = 0.5
ALPHABETS = {"small": ((8, 1),) * 6, "large": ((200, 4), (44, 1), (11, 1), (64, 1), (5, 1))}
"""Symbols and strata of each source."""

Plane = NDArray[np.uint8]


def radix_of(alphabet: str) -> tuple[int, ...]:
    sizes: list[int] = []
    for symbols, strata in ALPHABETS[alphabet]:
        sizes += [symbols + 1] if strata == 1 else [symbols + 1, strata]
    return tuple(sizes)


def field(rng: np.random.Generator, scale: float, n: int = 1) -> NDArray[np.float32]:
    """Return smooth noise of unit variance, shape (n, SIDE, SIDE), made on a coarse grid."""
    step = max(int(scale // 2), 1)
    side = SIDE // step + 2
    noise = rng.normal(size=(n, side, side)).astype(np.float32)
    rough = gaussian_filter(noise, (0, scale / step, scale / step))
    fine = zoom(rough, (1, step, step), order=1)[:, :SIDE, :SIDE]
    return np.asarray(fine / fine.std())


def patches(rng: np.random.Generator, side: int, top: int) -> NDArray[np.int64]:
    """Return squares of one number 0..top-1 each."""
    small = rng.integers(0, top, (SIDE // side + 1,) * 2)
    return small.repeat(side, 0).repeat(side, 1)[:SIDE, :SIDE]


def coherent(alphabet: str, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return one tile of planes, (S, SIDE, SIDE)."""
    truth = field(rng, 16, CLASSES).argmax(axis=0)
    other = field(rng, 8, CLASSES).argmax(axis=0)

    def heard() -> NDArray[np.int64]:
        wrong = field(rng, 6)[0] > 1.0  # 16 % in patches
        single = rng.random((SIDE, SIDE)) < 0.01
        said = np.where(wrong, other, truth)
        return np.where(single, rng.integers(0, CLASSES, said.shape), said)

    def silent(scale: float, level: float) -> NDArray[np.bool_]:
        return np.asarray(field(rng, scale)[0] > level)

    if alphabet == "small":
        planes = [np.where(silent(32, 1.3), 0, heard() + 1) for _ in ALPHABETS[alphabet]]
        return np.stack(planes).astype(np.uint8)
    parcel, block = patches(rng, 24, 25), patches(rng, 50, 5)
    steps = np.digitize(field(rng, 5)[0], np.linspace(-1.5, 1.5, 7))
    planes = [
        np.where(silent(40, 0.5), 0, 1 + 25 * truth + parcel),
        patches(rng, 64, 4),
        np.minimum(1 + 5 * patches(rng, 50, CLASSES) + block, 44),
        1 + heard(),
        1 + 8 * heard() + steps,
        np.digitize(field(rng, 12)[0], [-1.0, 0.0, 1.0, 1.5]) + 1,
    ]
    return np.stack(planes).astype(np.uint8)


def pool_of(alphabet: str, kind: str) -> NDArray[np.uint8]:
    """Return the tiles, (POOL, S, SIDE, SIDE)."""
    rng = np.random.default_rng(0)
    radix = radix_of(alphabet)
    pool = np.empty((POOL, len(radix), SIDE, SIDE), np.uint8)
    for tile in pool:
        if kind == "coherent":
            tile[:] = coherent(alphabet, rng)
        else:
            for plane, size in zip(tile, radix, strict=True):
                plane[:] = rng.integers(0, size, plane.shape, dtype=np.uint8)
    return pool


def load_pool(alphabet: str, kind: str, folder: Path) -> NDArray[np.uint8]:
    """Return the tiles from a file in ``folder``, made by a process of its own if missing."""
    path = folder / f"{alphabet}-{kind}.npy"
    if not path.exists():
        child("pool", alphabet, kind, str(path))
    return np.asarray(np.load(path))


def reader(pool: NDArray[np.uint8]) -> stream.Read:
    """Return a reader that hands out tiles of the pool, cut at the edges of the area."""
    inner = np.ascontiguousarray(pool[:, :, :TILE, :TILE])

    def read(window: Window) -> NDArray[np.uint8]:
        rows, columns = window
        which = (-(-rows.start // TILE) * 7 + -(-columns.start // TILE)) % POOL
        height, width = rows.stop - rows.start, columns.stop - columns.start
        if (height, width) == (TILE, TILE):
            return np.asarray(inner[which])
        return np.asarray(pool[which, :, :height, :width])

    return read


def sources_of(alphabet: str) -> list[TiledSource]:
    legend = Legend(
        name="eight classes",
        classes=tuple(
            ClassDef(value=i + 1, name=f"c{i}", title=f"Class {i}", color=f"{i * 30:06x}")
            for i in range(CLASSES)
        ),
    )
    found = []
    for i, (symbols, strata) in enumerate(ALPHABETS[alphabet]):
        of_symbol = np.arange(symbols) * CLASSES // symbols
        crosswalk = Crosswalk(
            symbols=tuple(f"s{j}" for j in range(symbols)),
            target=legend,
            matrix=np.eye(CLASSES)[of_symbol],
            confidence=np.full(symbols, 0.8),
        )
        found.append(
            TiledSource(
                source=f"source {i}",
                crosswalk=crosswalk,
                phenomenon_time=Interval.of_year(2020),
                provenance=Provenance(activity="draw", agent="bench", roots=frozenset({str(i)})),
                strata=strata,
            )
        )
    return found


def seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    gc.collect()
    start = time.perf_counter()
    found = work()
    return time.perf_counter() - start, found


def copy_rates(pool: NDArray[np.uint8], workers: int) -> tuple[float, float]:
    """Return cells per second of copying, by one thread and by all."""
    buffer = np.zeros_like(pool)
    cells = pool.shape[0] * pool.shape[2] * pool.shape[3]
    alone = min(seconds(lambda: np.copyto(buffer, pool))[0] for _ in range(5))
    with ThreadPoolExecutor(workers) as threads:
        parts = range(workers)

        def copy() -> None:
            list(threads.map(lambda i: np.copyto(buffer[i::workers], pool[i::workers]), parts))

        together = min(seconds(copy)[0] for _ in range(5))
    return cells / alone, cells / together


def drain(result: stream.Streamed, read: stream.Read, workers: int) -> int:
    return sum(int(first[0, 0]) for _, first, _ in result.tiles(read, workers=workers))


def measure(alphabet: str, kind: str, side: int, workers: int, folder: Path) -> dict[str, Any]:
    """Return the rates of one setting; runs in a process of its own."""
    # one region for the small alphabet, 10 x 10 for the large one
    largest = -(-side // 10) if alphabet == "large" else side
    setting = replace(ENGINE, parts=1, largest_region=largest)
    sources = sources_of(alphabet)
    pool = load_pool(alphabet, kind, folder)
    copied, copied_together = copy_rates(pool, workers)
    read = reader(pool)
    del pool
    box, cells = grid(side, side), side * side
    region = region_side((side, side), setting)
    coding = Coding(radix=radix_of(alphabet), region=region, shape=(side, side))
    none = np.empty(0, np.int64)
    warm = Coding(radix=radix_of(alphabet), region=region, shape=(TILE, TILE))
    count_tiles(read, warm, grid(TILE, TILE), none)  # compiles
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # sets the largest size back
    counting, (patterns, _) = seconds(lambda: count_tiles(read, coding, box, none, workers=workers))
    row: dict[str, Any] = {
        "alphabet": alphabet,
        "kind": kind,
        "cells": cells,
        "patterns": len(patterns),
        "merged_below": patterns.thinned,
        "copyto": copied,
        "copyto_threads": copied_together,
        "count": cells / counting,
        "before": before,
    }
    if patterns.thinned:
        return row | {"peak": resident("VmHWM")}
    learning, result = seconds(
        lambda: fuse_stream(read, sources, box, workers=workers, setting=setting)
    )
    row["learn_seconds"] = learning - counting
    for name, beta in (("decode", 0.0), ("decode_spatial", BETA)):
        decided = replace(result, fused=replace(result.fused, beta=beta))
        drain(replace(decided, geobox=grid(TILE, TILE)), read, 1)  # compiles
        took, _ = seconds(lambda one=decided: drain(one, read, workers))
        row[name] = cells / took
    return row | {"peak": resident("VmHWM")}


def resident(what: str) -> float:
    """Return the resident size of this process in MiB: ``VmRSS`` now, ``VmHWM`` its largest."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(one for one in lines if one.startswith(what)).split()[1]) / 1024


def em_seconds(patterns: int = 100_000) -> dict[str, Any]:
    """Return the seconds of estimation on so many patterns of the small alphabet."""
    rng = np.random.default_rng(0)
    coding = Coding(radix=radix_of("small"), region=TILE, shape=(TILE, TILE))
    code = np.sort(rng.choice(coding.size, patterns, replace=False)).astype(np.uint64)
    planes = coding.columns(code)[:, 1:].astype(np.uint8)
    box = grid(patterns // 100, 100)
    observed = [
        one.observe(box, planes[:, [i]].T.reshape(1, *box.shape).astype(np.int64))
        for i, one in enumerate(sources_of("small"))
    ]
    posed = prepare(observed, families_of(observed))
    anchors = locate(None, np.empty(0, np.int64), posed)
    prior, exponents = class_prior(anchors, posed), conservative(posed)
    took = [seconds(lambda: estimate(posed, prior, exponents, anchors))[0] for _ in range(3)]
    return {"patterns": len(posed.units), "seconds": min(took)}


def crowdkit_rate(cells: int = 10_000) -> dict[str, Any]:
    """Return labels per second of crowd-kit's Dawid-Skene on a slice of a coherent tile."""
    # only the process that measures the peer holds it
    aggregation = importlib.import_module("crowdkit.aggregation")
    planes = coherent("small", np.random.default_rng(0)).reshape(6, -1)[:, :cells]
    source, cell = np.nonzero(planes)
    table = pd.DataFrame({"worker": source, "task": cell, "label": planes[source, cell]})
    took, _ = seconds(lambda: aggregation.DawidSkene(n_iter=8, tol=0).fit_predict(table))
    return {"labels": len(table), "seconds": took, "labels_per_second": len(table) / took}


def child(*arguments: str) -> Any:
    """Return what this file prints when it runs with these arguments."""
    command = [sys.executable, "-m", "benchmarks.fusion_speed", "--child", *arguments]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def in_child(arguments: list[str]) -> Any:
    if arguments[0] == "em":
        return em_seconds()
    if arguments[0] == "crowdkit":
        return crowdkit_rate()
    if arguments[0] == "pool":
        np.save(arguments[3], pool_of(arguments[1], arguments[2]))
        return None
    alphabet, kind, side, workers, folder = arguments
    return measure(alphabet, kind, int(side), int(workers), Path(folder))


def by_area(rows: Sequence[dict[str, Any]], columns: Mapping[Column, Callable[..., Cell]]) -> Table:
    """Return a table with a row for each alphabet, kind of ground and size."""
    cells = (
        (
            *(row["alphabet"], row["kind"], f"{row['cells'] / 1e6:.0f} million"),
            *(of(row) for of in columns.values()),
        )
        for row in rows
    )
    heads = (Column(name=name) for name in ("alphabet", "kind", "cells"))
    return Table(columns=(*heads, *columns), rows=tuple(cells))


def tables_of(found: dict[str, Any]) -> dict[str, Table]:
    """Return speed, memory, and what is compared with others."""

    def mega(key: str) -> Callable[..., Cell]:
        return lambda row: row[key] / 1e6 if key in row else None

    def ratio(key: str) -> Callable[..., Cell]:
        return lambda row: row[key] / row["copyto"] if key in row else None

    speed = {
        Column(name="copyto by 1 thread", digits=0): mega("copyto"),
        Column(name="by all threads", digits=0): mega("copyto_threads"),
        Column(name="count", digits=0): mega("count"),
        Column(name="count ÷ copyto", digits=3): ratio("count"),
        Column(name="learn, s", digits=1): lambda row: row.get("learn_seconds"),
        Column(name="decode", digits=0): mega("decode"),
        Column(name="decode ÷ copyto", digits=3): ratio("decode"),
        Column(name="decode with spatial term", digits=0): mega("decode_spatial"),
        Column(name="with spatial term ÷ copyto", digits=3): ratio("decode_spatial"),
    }
    memory = {
        Column(name="patterns", digits=0): lambda row: row["patterns"],
        Column(name="merged below, cells", digits=0): lambda row: row["merged_below"],
        Column(name="MiB before", digits=0): lambda row: row["before"],
        Column(name="MiB at most", digits=0): lambda row: row["peak"],
    }
    out = {"speed": by_area(found["rows"], speed), "memory": by_area(found["rows"], memory)}
    out["estimation"] = Table(
        columns=(
            Column(name="what"),
            Column(name="patterns", digits=0),
            Column(name="seconds", digits=2),
        ),
        rows=(("8 sweeps, one thread", found["em"]["patterns"], found["em"]["seconds"]),),
    )
    if "crowdkit" in found:
        ours, theirs = found["labels_per_second"], found["crowdkit"]["labels_per_second"]
        out["labels"] = Table(
            columns=(
                Column(name="method"),
                Column(name="labels per second", digits=0),
                Column(name="times crowd-kit", digits=0),
            ),
            rows=(
                ("counting, learning and decoding", ours, ours / theirs),
                ("crowd-kit's Dawid-Skene, 8 iterations", theirs, 1),
            ),
        )
    return out


def labels_per_second(rows: list[dict[str, Any]]) -> float:
    """Return labels per second of everything, for the largest small coherent area."""
    row = [one for one in rows if (one["alphabet"], one["kind"]) == ("small", "coherent")][-1]
    took = row["cells"] / row["count"] + row["learn_seconds"] + row["cells"] / row["decode"]
    return float(6 * row["cells"] / took)


def measured(sizes: list[int], workers: int) -> list[dict[str, Any]]:
    """Return the rates of every alphabet, kind and size."""
    rows = []
    with TemporaryDirectory() as folder:
        for alphabet, kind in product(ALPHABETS, ("coherent", "incoherent")):
            for side in sizes:
                if (alphabet, kind) == ("large", "incoherent") and side > 8192:
                    continue  # merging all the time: minutes that tell nothing new
                rows.append(child(alphabet, kind, str(side), str(workers), folder))
                print(rows[-1], file=sys.stderr, flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[2048, 8192, 20480])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--no-crowdkit", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("out/fusion_speed"))
    add_save(parser)
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(in_child(options.child)))
        return
    rows = measured(options.sizes, options.workers)
    found = {"workers": options.workers, "rows": rows, "em": child("em")}
    if not options.no_crowdkit:
        found |= {"crowdkit": child("crowdkit"), "labels_per_second": labels_per_second(rows)}
    options.out.mkdir(parents=True, exist_ok=True)
    write_json(options.out / "fusion_speed.json", found)
    about = f"millions of cells per second by {options.workers} threads; pool drawn with seed 0"
    keep(options.save, tables_of(found), [0], about)


if __name__ == "__main__":
    main()
