"""Reading OpenStreetMap into a 10 m class grid, against ogr2ogr + gdal_rasterize.

Whole processes, from the command line to the grid in memory or on disk: the extract is
read, areas are assembled, classified, projected, ordered (uses, cover, built things;
large before small) and rasterised. The yardstick is GDAL, used in three ways; ogr2ogr
always writes the ``multipolygons`` layer with the same keys, projected, into a GeoPackage
(with versions, times and all tags, as we keep them for the way back):

- ``one burn``: one ogr2ogr, one gdal_rasterize, with our whole table and painting order
  as one CASE expression. The least work that makes the same grid; it takes our table.
- ``a burn per key``: one ogr2ogr, then one gdal_rasterize for each key (landuse, natural,
  building, …) into the same grid, the key that says least first.
- ``a layer per key``: one ogr2ogr and one gdal_rasterize for each key.

    python -m benchmarks.osm_read EXTRACT.osm.pbf [--copies 1 8] [--runs 7] [--save osm_read]

``--copies N`` also reads an extract made of N copies side by side, which tells the cost
per object apart from the start of the interpreter. "packages loaded" is our time inside a
process whose packages are loaded, which is what a run of Glocal pays. Beside the wall
clock stands the processor time (user + system, all threads), which other work on the
machine disturbs less. Python may keep its bytecode, as it does where packages were
installed by pip. Runs alternate; the first of each is dropped.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import osmium
import rasterio
from osmium.osm import Box, Location, mutable
from rasterio.warp import transform_bounds

from benchmarks.stored import Column, Table, add_save, keep
from glocal.sources.osm.tags import KEYS, LINEAR, level_of, rows_of_table

OURS = """
import sys
import time
from pathlib import Path
import numpy as np
from glocal.core import legends
from glocal.core.burn import burn
from glocal.core.grid import area_geobox
from glocal.core.interval import Interval
from glocal.sources.osm.file import read_areas
from glocal.sources.osm.observe import observations_of
start = time.perf_counter()
path, out, bounds = Path(sys.argv[1]), sys.argv[2], [float(v) for v in sys.argv[3:7]]
legend = legends.legend("worldcover")
grid = area_geobox(tuple(bounds), sys.argv[7], 10)
said = observations_of(
    read_areas(path), grid, legend, name=path.name, source="osm", interval=Interval.of_year(2021)
)
values = np.array([0, *legend.values], np.uint8)
of_symbol = values[np.append(0, said.crosswalk.matrix.argmax(axis=1) + 1)]
classes = np.append(values[:1], of_symbol[said.symbols])[burn(said.geometry, grid)]
classes.tofile(out)
print(time.perf_counter() - start)
"""

CONFIG = """\
closed_ways_are_polygons={keys}
attribute_name_laundering=no
[points]
osm_id=yes
[lines]
osm_id=yes
[multipolygons]
osm_id=yes
osm_way_id=yes
osm_version=yes
osm_timestamp=yes
attributes={attributes}
other_tags=yes
[multilinestrings]
osm_id=yes
[other_relations]
osm_id=yes
"""


def quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def case(pick, order) -> str:
    """Return a CASE over the rows of our table, the row that should win first."""
    whens = []
    for row in sorted(rows_used(), key=order):
        key = f'"{row.key}"'
        tests = [f"{key} IS NOT NULL" if row.value == "*" else f"{key}={quoted(row.value)}"]
        tests += [f'"{k}"={quoted(v)}' for k, v in row.qualifiers]
        if row.base in LINEAR:
            tests.append("(area='yes' OR osm_way_id IS NULL)")
        whens.append(f"WHEN {' AND '.join(tests)} THEN {pick(row)}")
    return f"CASE {' '.join(whens)} END"


def rows_used():
    return [row for row in rows_of_table() if row.shares and row.key in KEYS]


def case_of_key(key: str) -> str:
    """Return a CASE over the rows of one key: the more qualifiers the earlier."""
    rows = [row for row in rows_used() if row.key == key]
    whens = []
    for row in sorted(rows, key=lambda row: (row.value == "*", -len(row.qualifiers))):
        tests = [f'"{key}" IS NOT NULL' if row.value == "*" else f'"{key}"={quoted(row.value)}']
        tests += [f'"{k}"={quoted(v)}' for k, v in row.qualifiers]
        if row.base in LINEAR:
            tests.append("(area='yes' OR osm_way_id IS NULL)")
        whens.append(f"WHEN {' AND '.join(tests)} THEN {next(iter(row.shares))}")
    return f"CASE {' '.join(whens)} END"


def order_of(row) -> tuple:
    wild = 1 if row.value == "*" else 0
    return (level_of(row) == 0, -len(row.qualifiers), KEYS.index(row.key), wild)


def write_config(folder: Path) -> None:
    qualifiers = sorted({k for row in rows_used() for k, _ in row.qualifiers} - set(KEYS))
    attributes = ",".join([*KEYS, *qualifiers, "area"])
    (folder / "osmconf.ini").write_text(CONFIG.format(keys=",".join(KEYS), attributes=attributes))


def ogr2ogr(path: Path, folder: Path, name: str, keys: tuple[str, ...], crs: str) -> list[str]:
    where = " OR ".join(f'"{key}" IS NOT NULL' for key in keys)
    config = ["--config", "OSM_CONFIG_FILE", str(folder / "osmconf.ini")]
    read = ["ogr2ogr", "-q", "-f", "GPKG", str(folder / name), str(path), "multipolygons"]
    return [*read, *config, "-t_srs", crs, "-nln", "a", "-where", where]


def rasterize(folder: Path, name: str, code: str, level: str, extent: list[str]) -> list[str]:
    sql = (
        f"SELECT geom, {code} AS code FROM a WHERE {code} IS NOT NULL "
        f"ORDER BY {level}ST_Area(geom) DESC"
    )
    files = [str(folder / name), str(folder / "a.tif")]
    return ["gdal_rasterize", "-q", "-a", "code", "-sql", sql, *extent, *files]


def gdal_commands(way: str, path: Path, folder: Path, bounds: list[float], crs: str):
    """Return the commands of one way to make the grid with GDAL."""
    extent = ["-te", *(str(v) for v in bounds), "-tr", "10", "10", "-ot", "Byte"]
    read = ogr2ogr(path, folder, "a.gpkg", KEYS, crs)
    if way == "one burn":
        code = case(lambda row: next(iter(row.shares)), order_of)
        level = case(level_of, order_of)
        return [read, rasterize(folder, "a.gpkg", code, f"{level}, ", extent)]
    keys = [key for key in reversed(KEYS) if any(row.key == key for row in rows_used())]
    commands = [read] if way == "a burn per key" else []
    for i, key in enumerate(keys):
        name = "a.gpkg" if way == "a burn per key" else f"{key}.gpkg"
        if way == "a layer per key":
            commands.append(ogr2ogr(path, folder, name, (key,), crs))
        # the first makes the grid, the others burn into it
        commands.append(rasterize(folder, name, case_of_key(key), "", [] if i else extent))
    return commands


WAYS = ("one burn", "a burn per key", "a layer per key")


def spent() -> float:
    """Return the processor time of all finished child processes, seconds."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def timed(commands: list[list[str]], folder: Path) -> tuple[float, float, str]:
    """Return (wall seconds, processor seconds, what the last one printed)."""
    env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    env |= {"OMP_NUM_THREADS": "1", "PYTHONPYCACHEPREFIX": str(folder / "bytecode")}
    wall, processor, text = time.perf_counter(), spent(), ""
    for command in commands:
        text = subprocess.run(
            command, check=True, env=env, stdout=subprocess.PIPE, text=True
        ).stdout
    return time.perf_counter() - wall, spent() - processor, text


def run_gdal(way: str, path: Path, folder: Path, bounds: list[float], crs: str):
    for old in (*folder.glob("*.gpkg"), folder / "a.tif"):
        old.unlink(missing_ok=True)
    return timed(gdal_commands(way, path, folder, bounds, crs), folder)[:2]


def run_ours(path: Path, folder: Path, bounds: list[float], crs: str) -> tuple[float, ...]:
    """Return (wall, processor, wall without starting Python and loading packages)."""
    numbers = [str(v) for v in bounds]
    command = [sys.executable, "-c", OURS, str(path), str(folder / "a.bin"), *numbers, crs]
    wall, processor, text = timed([command], folder)
    return wall, processor, float(text)


def area_of(path: Path, crs: str) -> list[float]:
    """Return the header's box on a 10 m grid, in ``crs``."""
    box = osmium.FileProcessor(str(path)).header.box()
    lower, upper = box.bottom_left, box.top_right
    bounds = transform_bounds("EPSG:4326", crs, lower.lon, lower.lat, upper.lon, upper.lat)
    return [
        float(round_to(v / 10) * 10)
        for v, round_to in zip(bounds, (np.floor, np.floor, np.ceil, np.ceil), strict=True)
    ]


def write_copies(path: Path, out: Path, copies: int) -> None:
    """Write ``copies`` of the extract side by side, ids and longitudes moved."""
    header = osmium.FileProcessor(str(path)).header
    box = header.box()
    width = box.top_right.lon - box.bottom_left.lon
    corner = Location(box.top_right.lon + width * (copies - 1), box.top_right.lat)
    grown = Box(box.bottom_left, corner)
    wide = osmium.io.Header()
    wide.add_box(grown)
    step = 20_000_000_000
    writer = osmium.SimpleWriter(str(out), header=wide)
    for kind, add in (("n", writer.add_node), ("w", writer.add_way), ("r", writer.add_relation)):
        for copy in range(copies):
            for item in osmium.FileProcessor(str(path)):
                if item.type_str() == kind:
                    add(moved(item, kind, copy * step, copy * width))
    writer.close()


def moved(item, kind: str, step: int, shift: float):
    number = item.id + step
    if kind == "n":
        location = (item.location.lon + shift, item.location.lat)
        return mutable.Node(item, id=number, location=location)
    if kind == "w":
        return mutable.Way(item, id=number, nodes=[node.ref + step for node in item.nodes])
    members = [(m.type, m.ref + step, m.role) for m in item.members]
    return mutable.Relation(item, id=number, members=members)


def agreement(folder: Path, bounds: list[float]) -> tuple[float, float]:
    """Return the share of cells on which both grids agree, of all and of those painted."""
    shape = (round((bounds[3] - bounds[1]) / 10), round((bounds[2] - bounds[0]) / 10))
    ours = np.fromfile(folder / "a.bin", np.uint8).reshape(shape)
    with rasterio.open(folder / "a.tif") as handle:
        theirs = handle.read(1)
    same, painted = ours == theirs, (ours > 0) | (theirs > 0)
    return float(same.mean()), float(same[painted].mean())


def compare(path: Path, folder: Path, runs: int, crs: str) -> dict[str, Table]:
    """Return the seconds of all ways, and what else is known of them."""
    bounds = area_of(path, crs)
    write_config(folder)
    ours: list[tuple[float, ...]] = []
    gdal: dict[str, list[tuple[float, ...]]] = {way: [] for way in WAYS}
    same = {}
    for _ in range(runs + 1):  # the first round warms the disk cache and is dropped
        ours.append(run_ours(path, folder, bounds, crs))
        for way in WAYS:
            gdal[way].append(run_gdal(way, path, folder, bounds, crs))
            same[way] = agreement(folder, bounds)
    whole = middle(ours[1:], 0)
    seconds = [
        ("ours, whole process", whole, None),
        ("ours, packages loaded", middle(ours[1:], 2), None),
    ]
    beside = [("ours, whole process", middle(ours[1:], 1)[0], None, None)]
    for way in WAYS:
        wall = middle(gdal[way][1:], 0)
        seconds.append((f"GDAL, {way}", wall, wall[0] / whole[0]))
        beside.append((f"GDAL, {way}", middle(gdal[way][1:], 1)[0], *same[way]))
    head = Column(name="way")
    return {
        "seconds": Table(
            columns=(head, Column(name="seconds", digits=2), Column(name="÷ ours", digits=2)),
            rows=tuple(seconds),
        ),
        "beside": Table(
            columns=(
                head,
                Column(name="processor seconds", digits=2),
                Column(name="cells that agree", digits=4),
                Column(name="painted cells that agree", digits=4),
            ),
            rows=tuple(beside),
        ),
    }


def middle(runs: list[tuple[float, ...]], column: int) -> tuple[float, float, float]:
    """Return the median, the smallest and the largest of one column."""
    found = [one[column] for one in runs]
    return statistics.median(found), min(found), max(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("extract", type=Path)
    parser.add_argument("--copies", type=int, nargs="*", default=[1])
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--crs", default="EPSG:32632")
    add_save(parser)
    options = parser.parse_args()
    missing = [name for name in ("ogr2ogr", "gdal_rasterize") if shutil.which(name) is None]
    if missing:
        sys.exit(f"not found: {', '.join(missing)}; install GDAL's programs (gdal-bin) to compare")
    version = subprocess.check_output(["ogr2ogr", "--version"], text=True).strip()
    tables: dict[str, Table] = {}
    with tempfile.TemporaryDirectory() as name:
        for copies in options.copies:
            path = options.extract
            if copies > 1:
                path = Path(name) / f"copies-{copies}.osm.pbf"
                write_copies(options.extract, path, copies)
            found = compare(path, Path(name), options.runs, options.crs)
            tables |= {key if copies == 1 else f"{key}-{copies}": found[key] for key in found}
    about = f"medians of {options.runs} runs, shortest to longest; {version}"
    keep(options.save, tables, [], about)


if __name__ == "__main__":
    main()
