"""No person leaves a run; ODbL goes wherever OpenStreetMap entered; inputs are named."""

from __future__ import annotations

import base64
import csv
import hashlib
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import rasterio
import yaml

from tests.loop.areas import USER, make_area, run_area

OBSERVER, INTERPRETER = "Ida Beobachterin", "Otto Deuterich"


def _with_column(path: Path, column: str, value: str) -> None:
    rows = list(csv.reader(path.read_text().splitlines()))
    lines = [[*rows[0], column], *([*row, value] for row in rows[1:])]
    path.write_text("\n".join(",".join(row) for row in lines) + "\n")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return the folders of an area whose tables name people, and of its run."""
    folder = tmp_path_factory.mktemp("people")
    area = make_area(folder / "area", size=64)
    _with_column(folder / "area" / "field.csv", "Enumerator_Name", OBSERVER)
    _with_column(folder / "area" / "points.csv", "interpreted_by", INTERPRETER)
    settings = yaml.safe_load(area.read_text())
    area.write_text(yaml.safe_dump({**settings, "rounds": 2}))
    run_area(area, folder / "out")
    return folder / "area", folder / "out"


def _text(path: Path) -> bytes:
    """Return what a file says, unpacked."""
    if path.suffix != ".parquet":
        return path.read_bytes()
    table = pq.read_table(path)
    columns = [table[name].to_pylist() for name in table.column_names]
    return f"{table.column_names} {table.schema.metadata} {columns}".encode()


def test_no_person_is_in_any_file(run: tuple[Path, Path]) -> None:
    area, out = run
    inputs = b"".join(one.read_bytes() for one in area.iterdir())
    files = [one for one in out.rglob("*") if one.is_file()]
    assert len(files) > 50
    for name in (USER, OBSERVER, INTERPRETER):
        assert name.encode() in inputs
        assert [one.name for one in files if name.encode() in _text(one)] == []


def test_what_osm_entered_is_odbl(run: tuple[Path, Path]) -> None:
    _, out = run
    for source in ("field", "map", "model", "image"):
        found = []
        for path in sorted((out / "corrections" / source).glob("*.json")):
            content = json.loads(path.read_text())
            said = content.get("licence") or content.get("properties", {}).get("license")
            found.append(said or content["licenses"][0]["name"])
        assert found
        assert set(found) == {"ODbL-1.0"}, source
    packed = pq.read_schema(out / "corrections" / "map" / "patches.parquet").metadata
    assert packed[b"licence"] == b"ODbL-1.0"


def test_rounds_name_what_they_derive_from(run: tuple[Path, Path]) -> None:
    area, out = run
    rounds = sorted((out / "rounds").iterdir())
    item = json.loads((rounds[-1] / "item.json").read_text())
    links = [one["href"] for one in item["links"] if one["rel"] == "derived_from"]
    for name in ("image.tif", "map.tif", "extract.osm", "field.csv", "points.csv"):
        digest = hashlib.sha256((area / name).read_bytes()).digest()
        address = base64.urlsafe_b64encode(digest).decode().rstrip("=")
        assert f"ni:///sha-256;{address}" in links
    if len(rounds) > 1:
        assert f"../{rounds[-2].name}/item.json" in links
    document = json.loads((rounds[-1] / "prov.json").read_text())
    pairs = [
        (one["prov:generatedEntity"], one["prov:usedEntity"])
        for one in document["wasDerivedFrom"].values()
    ]
    assert pairs
    assert {new for new, _ in pairs}.isdisjoint(old for _, old in pairs)
    assert {name for pair in pairs for name in pair} <= set(document["entity"])


def test_labels_keep_away_from_reference_points(run: tuple[Path, Path]) -> None:
    area, out = run
    text = (out / "corrections" / "model" / "index.csv").read_text()
    index = list(csv.DictReader(text.splitlines()))
    assert index
    with rasterio.open(out / "corrections" / "model" / "label_weight.tif") as dataset:
        points = csv.DictReader((area / "points.csv").read_text().splitlines())
        at = [(float(one["x"]), float(one["y"])) for one in points]
        assert {float(value[0]) for value in dataset.sample(at)} == {0.0}
        assert (dataset.read(1) > 0).any()
