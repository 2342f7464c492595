"""Laws of a whole run: what people may call, number and order as they like changes nothing.

One small area is run, then run again after its files or its configuration were changed in a way
that means the same. Classes must be equal and probabilities within 1e-5 (a different order of
additions is allowed, another decision is not), and every source must be told the same.
"""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import geopandas as gpd
import numpy as np
import pyproj
import pytest
import rasterio
import yaml
from numpy.typing import NDArray
from rasterio.transform import Affine

from tests.loop.areas import CRS, NAMES, glocal, make_area, run_area, write_tif, write_yaml

SIZE, SEED = 72, 5
WORDS = {10: "Wald", 30: "Wiese", 40: "Acker", 50: "Siedlung", 80: "Wasser"}
COLORS = {10: "006400", 30: "ffff4c", 40: "f096ff", 50: "fa0000", 80: "0064c8"}
STEP = (70, -130)
"""Cells east and north by which everything is moved."""


@dataclass(frozen=True)
class Outcome:
    """What a run says, by the names of the plain run."""

    classes: NDArray[np.str_]
    probabilities: dict[str, NDArray[np.float64]]
    told: set[tuple[str, str, str, str, float]]
    """Source, place, action, class and probability of every correction."""

    files: dict[str, set[str]]
    """Names of the files that each source received."""

    gains: dict[str, float | None]
    folder: Path


def outcome(
    out: Path,
    class_of: Callable[[str], str] = str,
    source_of: Callable[[str], str] = str,
    back: tuple[float, float] = (0, 0),
) -> Outcome:
    metrics = json.loads((out / "metrics.json").read_text())
    name_of = {row["value"]: class_of(row["name"]) for row in metrics["legend"]}
    with rasterio.open(out / "estimate.tif") as raster:
        classes = np.vectorize(name_of.get)(raster.read(1))
    with rasterio.open(out / "probabilities.tif") as raster:
        layers = zip(metrics["legend"], raster.read() / 65_535, strict=True)
        probabilities = {class_of(row["name"]): layer for row, layer in layers}
    table = gpd.read_parquet(out / "corrections.parquet")
    points = table.geometry.representative_point()
    xy = zip(points.x - back[0], points.y - back[1], strict=True)
    # to ten metres, with borders where neither corners nor middles of cells lie: coordinates of
    # an extract are rounded to a centimetre, and so move a little with the area
    place = [f"{(x + 1.3) // 10:.0f}_{(y + 1.3) // 10:.0f}" for x, y in xy]
    rows = zip(table.source, place, table.action, table.proposed, table.probability, strict=True)
    return Outcome(
        classes=classes,
        probabilities=probabilities,
        told={(source_of(a), b, c, class_of(d), round(e, 4)) for a, b, c, d, e in rows},
        files={
            source_of(name): {Path(one).name for one in row["files"]}
            for name, row in metrics["corrections"].items()
        },
        gains={source_of(name): row["gain"] for name, row in metrics["sources"].items()},
        folder=out,
    )


def same(one: Outcome, other: Outcome) -> None:
    top = np.max(list(one.probabilities.values()), axis=0)
    second = np.sort(list(one.probabilities.values()), axis=0)[-2]
    clear = top - second > 1e-4  # of an exact tie either class may win
    np.testing.assert_array_equal(other.classes[clear], one.classes[clear])
    for name, layer in one.probabilities.items():
        np.testing.assert_allclose(other.probabilities[name], layer, atol=1e-5 + 1 / 65_535)
    assert other.told == one.told
    assert other.files == one.files
    for name, gain in one.gains.items():
        assert other.gains[name] == (gain if gain is None else pytest.approx(gain, abs=1e-4))


@pytest.fixture(scope="module")
def area(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the plain area; its map disagrees with OSM often enough for edits."""
    path = make_area(tmp_path_factory.mktemp("laws") / "area", SIZE, SEED)
    return write_yaml(path, {**read(path), "precision": 0.6})


@pytest.fixture(scope="module")
def plain(area: Path, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    out = tmp_path_factory.mktemp("plain")
    run_area(area, out)
    found = outcome(out)
    assert {"proposal.osc", "new_areas.geojsonl"} <= found.files["osm"]
    assert {"create", "modify"} <= {row[2] for row in found.told if row[0] == "osm"}
    return found


def read(path: Path) -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load(path.read_text())
    return values


def changed(area: Path, folder: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """Return a copy of the area whose configuration went through ``change``."""
    shutil.copytree(area.parent, folder / "area")
    values = read(area)
    change(values)
    return write_yaml(folder / "area" / "area.yaml", values)


def write_legend(path: Path, rows: list[dict[str, Any]]) -> Path:
    with path.open("w", newline="") as handle:
        table = csv.DictWriter(handle, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    return path


def legend_rows(order: list[int], **columns: dict[int, Any]) -> list[dict[str, Any]]:
    return [
        {
            "value": columns["value"][code],
            "name": columns["name"][code],
            "title": columns["name"][code],
            "color": COLORS[code],
            **({"concept": columns["concept"][code]} if "concept" in columns else {}),
        }
        for code in order
    ]


def test_other_codes_and_order_of_the_legend(area: Path, plain: Outcome, tmp_path: Path) -> None:
    code = {10: 5, 30: 3, 40: 1, 50: 4, 80: 2}
    rows = legend_rows([40, 80, 30, 50, 10], value=code, name=NAMES)

    def change(values: dict[str, Any]) -> None:
        values.update(legend="mine.csv", classes=[1, 2, 3, 4, 5])

    path = changed(area, tmp_path, change)
    write_legend(path.parent / "mine.csv", rows)
    run_area(path, tmp_path / "out")
    same(plain, outcome(tmp_path / "out"))


def test_other_names_of_the_classes(area: Path, plain: Outcome, tmp_path: Path) -> None:
    rows = legend_rows(list(NAMES), value={one: one for one in NAMES}, name=WORDS, concept=NAMES)
    path = changed(area, tmp_path, lambda values: values.update(legend="namen.csv", classes=None))
    write_legend(path.parent / "namen.csv", rows)
    run_area(path, tmp_path / "out")
    old = {word: NAMES[code] for code, word in WORDS.items()}
    same(plain, outcome(tmp_path / "out", lambda one: old.get(one, one)))


def test_other_names_and_order_of_the_sources(area: Path, plain: Outcome, tmp_path: Path) -> None:
    new = {"image": "q", "rules": "z", "osm": "m", "map": "b", "field": "a", "model": "k"}

    def change(values: dict[str, Any]) -> None:
        for source in values["sources"]:
            source["name"] = new[source["name"]]
            of = source.get("of")
            if of:
                source["of"] = [new[one] for one in of] if isinstance(of, list) else new[of]
        values["sources"].reverse()

    run_area(changed(area, tmp_path, change), tmp_path / "out")
    old = {name: one for one, name in new.items()}
    same(plain, outcome(tmp_path / "out", source_of=lambda one: old[one]))


def test_another_place(area: Path, plain: Outcome, tmp_path: Path) -> None:
    east, north = 10 * STEP[0], 10 * STEP[1]

    def change(values: dict[str, Any]) -> None:
        left, bottom, right, top = values["grid"]["bbox"]
        values["grid"]["bbox"] = [left + east, bottom + north, right + east, top + north]

    path = changed(area, tmp_path, change)
    for name in ("image.tif", "map.tif"):
        with rasterio.open(path.parent / name, "r+") as raster:
            raster.transform = Affine.translation(east, north) * raster.transform
    for name in ("points.csv", "field.csv"):
        lines = list(csv.DictReader((path.parent / name).read_text().splitlines()))
        moved = [
            {**one, "x": float(one["x"]) + east, "y": float(one["y"]) + north} for one in lines
        ]
        write_legend(path.parent / name, moved)
    move_extract(path.parent / "extract.osm", east, north)
    run_area(path, tmp_path / "out")
    same(plain, outcome(tmp_path / "out", back=(east, north)))


def move_extract(path: Path, east: float, north: float) -> None:
    there = pyproj.Transformer.from_crs("EPSG:4326", CRS, always_xy=True)
    tree = ET.parse(path)
    for node in tree.iter("node"):
        x, y = there.transform(float(node.attrib["lon"]), float(node.attrib["lat"]))
        lon, lat = there.transform(x + east, y + north, direction="INVERSE")
        node.attrib.update(lon=f"{lon:.7f}", lat=f"{lat:.7f}")
    tree.write(path)


def test_sources_that_say_nothing(area: Path, plain: Outcome, tmp_path: Path) -> None:
    """An image that nobody reads, and a person who answered nothing but "skipped"."""
    heights = {
        "name": "heights", "kind": "dsm", "path": "heights.tif", "unit": "m",
        "date": "2020-06-15", "licence": "CC0-1.0",
    }  # fmt: skip
    path = changed(area, tmp_path, lambda values: values["sources"].insert(0, heights))
    rng = np.random.default_rng(SEED)
    write_tif(path.parent / "heights.tif", rng.normal(60, 9, (SIZE, SIZE)).astype(np.float32))
    shutil.copytree(plain.folder, tmp_path / "asked")
    glocal("answers", tmp_path / "asked")
    table = tmp_path / "asked" / "to_answer.csv"
    rows = list(csv.DictReader(table.read_text().splitlines()))
    write_legend(table, [{**one, "answer": "skipped"} for one in rows])
    said = glocal("answers", tmp_path / "asked", table)
    assert said.exit_code == 0, said.output
    run_area(path, tmp_path / "out", "--answers", tmp_path / "asked" / "answers")
    found = outcome(tmp_path / "out")
    for name in ("heights", "review"):
        found.files.pop(name)
    same(plain, found)
