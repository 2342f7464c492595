"""A new kind of source is one folder, and its name in one tuple."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
import yaml

import glocal

HERE = Path(__file__).parent
LISTED = "KINDS: tuple[Kind, ...] = ("
WRONG = 12


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """Return a folder with a copy of the package to which a cadastre was added."""
    folder = tmp_path_factory.mktemp("package")
    room = folder / "glocal"
    shutil.copytree(
        Path(glocal.__file__).parent, room, ignore=shutil.ignore_patterns("__pycache__")
    )
    shutil.copytree(HERE / "room", room / "sources" / "cadastre")
    listed = room / "sources" / "kinds.py"
    text = listed.read_text("utf-8")
    assert text.count(LISTED) == 1
    named = "from glocal.sources.cadastre.kind import Cadastre\n\n"
    listed.write_text(text.replace(LISTED, f"{named}{LISTED}Cadastre(), "), "utf-8")
    return folder


def test_a_cadastre_is_read_fused_corrected_and_scored(package, tmp_path):
    earth = glocal.simulate(tmp_path / "area", size=96, seed=1)
    truth = earth.truth.values
    parcels = [(row, column) for row in range(12) for column in range(12)]
    use = [
        earth.classes[np.bincount(truth[r * 8 : r * 8 + 8, c * 8 : c * 8 + 8].ravel()).argmax()]
        for r, c in parcels
    ]
    x, y = earth.truth["x"].values, earth.truth["y"].values
    square = [
        shapely.box(x[c * 8] - 5, y[r * 8] + 5 - 80, x[c * 8] + 75, y[r * 8] + 5)
        for r, c in parcels
    ]
    wrong = np.random.default_rng(0).permutation(len(use))[:WRONG]
    said = ["water" if i in wrong and use[i] != "water" else use[i] for i in range(len(use))]
    table = gpd.GeoDataFrame(
        {"parcel": range(len(use)), "use": said}, geometry=square, crs="EPSG:32633"
    )
    table.to_file(tmp_path / "area" / "parcels.geojson")
    content = yaml.safe_load((tmp_path / "area" / "area.yaml").read_text("utf-8"))
    content["sources"] = [one for one in content["sources"] if one["kind"] == "landcover"]
    content["sources"].append({"name": "parcels", "kind": "cadastre", "path": "parcels.geojson"})
    content["rounds"] = 1
    (tmp_path / "area" / "area.yaml").write_text(yaml.safe_dump(content), "utf-8")

    run = [sys.executable, "-m", "glocal", "run", "area/area.yaml", "--out", "out", "--json"]
    paths = os.pathsep.join(filter(None, [str(package), os.environ.get("PYTHONPATH", "")]))
    env = {**os.environ, "PYTHONPATH": paths}
    done = subprocess.run(run, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

    metrics = json.loads(done.stdout)
    row = metrics["sources"]["parcels"]
    assert row["kind"] == "cadastre"
    assert row["metric"] == "parcels of the right use"
    assert row["after"] >= row["before"]
    told = gpd.read_file(tmp_path / "out" / "corrections" / "parcels" / "parcels.geojson")
    kept = pd.read_parquet(tmp_path / "out" / "corrections.parquet")
    assert (
        len(told)
        == (kept["source"] == "parcels").sum()
        == sum(metrics["corrections"]["parcels"]["count"].values())
    )
    spoiled = {f"parcel/{i}" for i in wrong if use[i] != "water"}
    assert len(set(told["parcel"]) & spoiled) >= len(told) / 2 > 0
    page = (tmp_path / "out" / "report.html").read_text("utf-8")
    assert "parcels of the right use" in page
