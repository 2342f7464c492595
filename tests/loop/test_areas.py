"""A whole run on a small made-up area: what a user gets, and in what shape."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import rasterio
from rio_cogeo.cogeo import cog_validate

from glocal.loop.area.area import read_area
from glocal.loop.area.config import load
from glocal.loop.rounds.turns import taught_provenance
from glocal.sources.models import kind as models
from glocal.sources.osm.kind import TERMS
from tests.catalogue import stac_errors
from tests.loop.areas import CRS, USER, glocal, make_area, make_ground, run_area

KEYS = {
    "software",
    "area",
    "seed",
    "rounds",
    "round_kept",
    "interval_level",
    "legend",
    "reference",
    "estimate",
    "baselines",
    "calibration",
    "sources",
    "corrections",
    "weights",
    "families",
    "displacement",
    "class_area",
    "attribution",
    "licence",
    "notes",
    "ties",
    "audits",
}

DESCRIBED_BY = (
    "item.json",
    "PROPOSAL_README.md",
    "datapackage.json",
    "metrics.json",
    "labels.json",
    "registration.json",
    "accuracy.json",
)
"""Files that name the licence of those beside them that can't."""


@pytest.fixture(scope="module")
def area(tmp_path_factory) -> Path:
    return make_area(tmp_path_factory.mktemp("area"))


@pytest.fixture(scope="module")
def out(area, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "out"
    run_area(area, folder)
    return folder


@pytest.fixture(scope="module")
def metrics(out) -> dict[str, Any]:
    return json.loads((out / "metrics.json").read_text())


def files(out: Path, *suffixes: str) -> list[Path]:
    return sorted(one for one in out.rglob("*") if one.suffix in suffixes)


def test_the_estimate_is_better_than_any_map_that_went_in(out, metrics):
    truth = make_ground(96, 0).cells
    with rasterio.open(out / "estimate.tif") as one:
        right = (one.read(1) == truth).mean()
    assert right > 0.85
    assert metrics["estimate"]["accuracy"] >= metrics["sources"]["map"]["before"]


def test_every_raster_is_a_valid_cog_on_the_grid(out):
    rasters = [one for one in files(out, ".tif") if not one.name.startswith("chip_")]
    assert len(rasters) >= 9
    for path in rasters:
        valid, errors, warnings = cog_validate(path, strict=True)
        assert valid, (path.name, errors, warnings)
        with rasterio.open(path) as one:
            assert (one.crs, one.shape) == (CRS, (96, 96)), path.name


def test_stac_items_are_valid_without_network(out):
    items = files(out / "rounds", ".json")
    items = [one for one in items if one.name == "item.json"]
    assert len(items) == 2
    for path in items:
        item = json.loads(path.read_text())
        assert stac_errors(item) == []
        for asset in item["assets"].values():
            assert (path.parent / asset["href"]).is_file()


def test_stac_items_are_valid_with_their_extensions(out, shared):
    item = json.loads((out / "rounds" / "000" / "item.json").read_text())
    assert stac_errors(item, shared / "schemas" / "stac") == []


def test_tables_open_in_geopandas_with_their_crs(out):
    tables = [one for one in files(out, ".parquet") if one.name != "reliability.parquet"]
    assert {one.name for one in tables} >= {"corrections.parquet", "displacement.parquet"}
    for path in [*tables, *files(out, ".gpkg")]:
        table = gpd.read_parquet(path) if path.suffix == ".parquet" else gpd.read_file(path)
        assert table.crs is not None, path
    corrections = gpd.read_parquet(out / "corrections.parquet")
    assert len(corrections)
    for row in corrections.itertuples():
        assert row.source not in row.because.split()
    reliability = pd.read_parquet(out / "reliability.parquet")
    sums = reliability.groupby(["source", "context", "class"])["probability"].sum()
    np.testing.assert_allclose(sums, 1)


def told(out: Path, source: str) -> pd.DataFrame:
    """Return what the run's table of corrections says of one source, by record."""
    table = pd.DataFrame(gpd.read_parquet(out / "corrections.parquet"))
    return table[table["source"] == source].set_index("record").sort_index()


def test_what_is_counted_shown_and_sent_is_one_list(out, metrics):
    """Law 7: every file tells the same corrections with the same probabilities."""
    top = pd.DataFrame(gpd.read_parquet(out / "corrections.parquet"))
    kept = out / "rounds" / f"{metrics['round_kept']:03d}" / "corrections.parquet"
    pd.testing.assert_frame_equal(top, pd.DataFrame(gpd.read_parquet(kept)))
    for name, row in metrics["corrections"].items():
        fates = told(out, name)["fate"].value_counts().to_dict()
        others = ("visit", "symbols", "label_cells", "chips", "cloud_cells", "filled_cells")
        assert {k: n for k, n in row["count"].items() if n and k not in others} == fates, name
    room = out / "corrections"
    osm = told(out, "osm")
    assert len(osm)
    index = gpd.read_parquet(room / "osm" / "proposals.parquet").set_index("record").sort_index()
    for name in ("kind", "fate", "current", "proposed", "probability", "round"):
        assert index[name].tolist() == osm[name].tolist(), name
    lines = [
        json.loads(line.strip("\x1e"))["features"][0]["properties"]
        for path in (room / "osm").glob("*.geojsonl")
        for line in path.read_text().split("\n")
        if line
    ]
    asked = index[index["fate"].isin(("modify", "create", "survey", "missing"))]
    assert {one["glocal_id"] for one in lines} == set(asked["proposal"])
    patches, mapped = gpd.read_parquet(room / "map" / "patches.parquet"), told(out, "map")
    assert len(patches)
    patches = patches.set_index("change_id").sort_index()
    assert patches.index.tolist() == mapped.index.tolist()
    assert patches["p_to"].tolist() == mapped["probability"].round(4).tolist()
    assert patches["class_to"].tolist() == mapped["proposed"].tolist()
    changes = json.loads((room / "field" / "td_changeset.json").read_text())["modify"]
    field = told(out, "field")
    sure = {one["id"]: one["labels"][0]["confidence"] for one in changes}
    assert sure == field["probability"].round(4).to_dict()


def test_metrics_have_every_documented_key(metrics):
    assert set(metrics) >= KEYS
    for name, row in metrics["sources"].items():
        assert set(row) >= {"kind", "before", "after", "gain", "low", "high", "n", "why"}, name
        assert (row["before"] is None) == bool(row["why"]), name
    for name, row in metrics["corrections"].items():
        assert {"count", "files", "expected_precision", "threshold", "note"} <= set(row), name
    assert set(metrics["corrections"]) == set(metrics["sources"])


def test_every_file_that_metrics_name_is_there(out, metrics):
    named = {one for row in metrics["corrections"].values() for one in row["files"]}
    there = {one.relative_to(out).as_posix() for one in files(out / "corrections", *SUFFIXES)}
    # the index of chips names them, not the metrics
    assert named == {one for one in there if "/chip_" not in one}


SUFFIXES = (
    ".tif", ".qml", ".parquet", ".gpkg", ".json", ".geojson", ".geojsonl", ".osc", ".md",
    ".csv", ".gpx", ".xml", ".osm", ".points",
)  # fmt: skip


def test_every_output_names_its_licence(out):
    for path in files(out, *SUFFIXES):
        if path.suffix == ".qml" or path.name in ("inputs.json", "log.jsonl"):
            continue  # styles and bookkeeping
        beside = [path.parent / name for name in DESCRIBED_BY]
        beside += [out / "metrics.json"] if path.parent.name == "evaluation" else []
        there = [one for one in beside if one.exists()]
        assert any("licen" in text_of(one).lower() for one in [path, *there]), path


def text_of(path: Path) -> str:
    if path.suffix == ".tif":
        with rasterio.open(path) as one:
            return one.tags().get("TIFFTAG_COPYRIGHT", "")
    if path.suffix == ".parquet":
        return str(pq.read_schema(path).metadata)
    return path.read_bytes().decode("utf-8", "ignore")


def test_the_quicklook_has_the_licence_of_the_image_alone(out):
    with rasterio.open(out / "image.tif") as one:
        assert "ODbL" not in one.tags()["TIFFTAG_COPYRIGHT"]
        assert "Copernicus" in one.tags()["TIFFTAG_COPYRIGHT"]
    with rasterio.open(out / "estimate.tif") as one:
        assert "ODbL" in one.tags()["TIFFTAG_COPYRIGHT"]


def test_no_user_and_no_folder_of_this_machine_is_in_any_output(out, area):
    folder = str(area.parent).encode()
    for path in files(out, *SUFFIXES, ".html", ".npz", ".yaml"):
        content = path.read_bytes()
        assert USER.encode() not in content, path
        assert b"4711" not in content or path.suffix not in (".osc", ".geojsonl"), path
        assert folder not in content, path
        assert str(out).encode() not in content, path


def test_the_report_is_one_self_contained_page(out):
    page = (out / "report.html").read_text()
    loaded = re.findall(r"""(?:src|href)\s*=\s*["']([^"']+)""", page)
    assert not [one for one in loaded if not one.startswith(("data:", "#"))]
    assert "@import" not in page
    assert "parcels" in page


def test_a_model_with_packaged_weights_names_them_and_is_not_heard_for_osm(area, monkeypatch):
    read = read_area(load(area), lambda what, share: None)
    (plain,) = read.learners
    bands = taught_provenance(read, plain)
    monkeypatch.setattr(models, "features", lambda *_: plain.sees)
    config = plain.config.model_copy(update={"features": "msgfm"})
    taught = models.Models().read(config, plain.window)
    others = tuple(one for one in read.readings if one.name != plain.name)
    with_weights = replace(read, readings=(*others, taught))
    both = taught_provenance(with_weights, taught)
    assert both.licences - bands.licences == {"Apache-2.0"}
    assert "eurosat-rgb" in both.roots - bands.roots
    assert set(bands.attribution) < set(both.attribution)
    assert [one.name for one in read.under(TERMS).learners] == [plain.name]
    assert with_weights.under(TERMS).learners == ()


def test_a_second_run_has_nothing_to_do_and_touches_nothing(area, out):
    before = {one: one.stat().st_mtime_ns for one in files(out, *SUFFIXES, ".html")}
    result = glocal("run", area, "--out", out)
    assert result.exit_code == 0
    assert result.stdout.startswith("Nothing to do")
    assert before == {one: one.stat().st_mtime_ns for one in before}


def test_the_resolved_configuration_says_the_same(area, out):
    assert load(out / "area.yaml") == load(area)


def test_another_configuration_may_not_use_the_folder(area, out):
    result = glocal("run", area, "--out", out, "--seed", 5)
    assert result.exit_code == 4
    assert "another configuration" in result.stderr


def test_show_prints_the_finished_run(out):
    result = glocal("show", out)
    assert result.exit_code == 0
    for words in ("osm", "model", "ODbL-1.0", "Copernicus"):
        assert words in result.stdout
