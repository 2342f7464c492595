"""Reading OpenStreetMap into a 10 m class grid, against ogr2ogr + gdal_rasterize.

Whole processes, from the command line to the grid in memory or on disk: the extract is
read, areas are assembled, classified, projected, ordered (uses, cover, built things;
large before small) and rasterised. The yardstick makes the same grid with GDAL: ogr2ogr
reads the ``multipolygons`` layer with the same keys into a GeoPackage (with versions,
times and all tags, as we keep them for the way back), gdal_rasterize
orders and burns it with the class as a CASE expression made from the same table.

    python benchmarks/osm_read.py EXTRACT.osm.pbf [--copies 1 8] [--runs 5]

``--copies N`` also reads an extract made of N copies side by side, which tells the cost
per object apart from the start of the interpreter. "loaded" is our time inside a process
whose packages are loaded, which is what a run of Glocal pays.
"""

from __future__ import annotations

import argparse
import os
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

from glocal.sources.osm_tags import KEYS, LINEAR, level_of, rows_of_table

OURS = """
import sys
import time
from pathlib import Path
import numpy as np
from glocal.core import legends
from glocal.core.burn import burn
from glocal.core.grid import area_geobox
from glocal.core.interval import Interval
from glocal.sources.osm_file import read_areas
from glocal.sources.osm_observe import observations_of
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


def gdal_commands(path: Path, folder: Path, bounds: list[float], crs: str) -> list[list[str]]:
    """Return the two commands that make the same grid."""
    rows = rows_used()
    qualifiers = sorted({k for row in rows for k, _ in row.qualifiers} - set(KEYS))
    attributes = ",".join([*KEYS, *qualifiers, "area"])
    (folder / "osmconf.ini").write_text(CONFIG.format(keys=",".join(KEYS), attributes=attributes))
    where = " OR ".join(f'"{key}" IS NOT NULL' for key in KEYS)

    def order(row):
        rank = -1 if row.value == "*" else 0
        return (level_of(row) == 0, -len(row.qualifiers), KEYS.index(row.key), -rank)

    code = case(lambda row: next(iter(row.shares)), order)
    level = case(level_of, order)
    sql = (
        f"SELECT geom, {code} AS code FROM a WHERE {code} IS NOT NULL "
        f"ORDER BY {level}, ST_Area(geom) DESC"
    )
    gpkg, tif = str(folder / "a.gpkg"), str(folder / "a.tif")
    config = ["--config", "OSM_CONFIG_FILE", str(folder / "osmconf.ini")]
    read = ["ogr2ogr", "-q", "-f", "GPKG", gpkg, str(path), "multipolygons", *config]
    read += ["-t_srs", crs, "-nln", "a", "-where", where]
    extent = ["-te", *(str(v) for v in bounds), "-tr", "10", "10", "-ot", "Byte"]
    return [read, ["gdal_rasterize", "-q", "-a", "code", "-sql", sql, *extent, gpkg, tif]]


def run_gdal(path: Path, folder: Path, bounds: list[float], crs: str) -> list[float]:
    for name in ("a.gpkg", "a.tif"):
        (folder / name).unlink(missing_ok=True)
    return [timed(command) for command in gdal_commands(path, folder, bounds, crs)]


def timed(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    return time.perf_counter() - start


def run_ours(path: Path, folder: Path, bounds: list[float], crs: str) -> list[float]:
    """Return (whole process, the same without starting Python and loading packages)."""
    numbers = [str(v) for v in bounds]
    command = [sys.executable, "-c", OURS, str(path), str(folder / "a.bin"), *numbers, crs]
    start = time.perf_counter()
    done = subprocess.run(
        command, check=True, capture_output=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    return [time.perf_counter() - start, float(done.stdout)]


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


def compare(path: Path, folder: Path, runs: int, crs: str) -> None:
    bounds = area_of(path, crs)
    times: dict[str, list[list[float]]] = {"ours": [], "gdal": []}
    for _ in range(runs + 1):  # the first round warms the disk cache and is dropped
        times["gdal"].append(run_gdal(path, folder, bounds, crs))
        times["ours"].append(run_ours(path, folder, bounds, crs))
    ours = [one[0] for one in times["ours"][1:]]
    warm = statistics.median(one[1] for one in times["ours"][1:])
    gdal = [sum(one) for one in times["gdal"][1:]]
    read = statistics.median(one[0] for one in times["gdal"][1:])
    burned = statistics.median(one[1] for one in times["gdal"][1:])
    whole, painted = agreement(folder, bounds)
    size = path.stat().st_size / 1e6
    a, b = statistics.median(ours), statistics.median(gdal)
    print(f"{path.name}, {size:.1f} MB")
    print(f"  ours   {a:6.2f} s ({min(ours):.2f}-{max(ours):.2f}), packages loaded {warm:.2f} s")
    print(
        f"  GDAL   {b:6.2f} s ({min(gdal):.2f}-{max(gdal):.2f}), read {read:.2f} burn {burned:.2f}"
    )
    print(f"  GDAL / ours {b / a:.2f}, packages loaded {b / warm:.2f}")
    print(f"  cells that agree {whole:.4f}, of painted ones {painted:.4f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("extract", type=Path)
    parser.add_argument("--copies", type=int, nargs="*", default=[1])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--crs", default="EPSG:32632")
    options = parser.parse_args()
    missing = [name for name in ("ogr2ogr", "gdal_rasterize") if shutil.which(name) is None]
    if missing:
        sys.exit(f"not found: {', '.join(missing)}; install GDAL's programs (gdal-bin) to compare")
    version = subprocess.check_output(["ogr2ogr", "--version"], text=True).strip()
    print(f"{version}; medians of {options.runs} runs of whole processes")
    with tempfile.TemporaryDirectory() as name:
        for copies in options.copies:
            path = options.extract
            if copies > 1:
                path = Path(name) / f"copies-{copies}.osm.pbf"
                write_copies(options.extract, path, copies)
            compare(path, Path(name), options.runs, options.crs)


if __name__ == "__main__":
    main()
