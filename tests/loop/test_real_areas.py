"""Real places, with files as users have them: what can be said, and what can't."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

from glocal.core.legends import legend
from tests.loop.areas import glocal, run_area, write_tif, write_yaml

UTM = "EPSG:32631"
CORNER = from_origin(664_000, 5_612_120, 10, 10)
SUMMER = {6: 7, 7: 8, 9: 10}
"""Month of 2021 to its place in the stack, which begins with November 2020."""


def layers(shared: Path, name: str) -> np.ndarray[Any, Any]:
    """Return all months of one variable of the Waremme stack, shape (12, 100, 100)."""
    path = shared / "belgium" / "waremme_s1s2dem_monthly.nc"
    with rasterio.open(f"NETCDF:{path}:{name}") as source:
        assert source.transform == CORNER
        return source.read()


def waremme(folder: Path, shared: Path, months: tuple[int, ...]) -> dict[str, Any]:
    """Write the stack as ordinary GeoTIFFs, one per month and sensor; return the settings."""
    folder.mkdir(parents=True, exist_ok=True)
    bands = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B11", "B12")
    optical = np.stack([layers(shared, f"S2-L2A-{band}") for band in bands])
    radar = np.stack([layers(shared, f"S1-SIGMA0-{name}") for name in ("VV", "VH")])
    place: dict[str, Any] = {"transform": CORNER, "crs": UTM}
    sources: list[dict[str, Any]] = []
    for month in months:
        at = SUMMER[month]
        when = f"2021-{month:02d}-01/2021-{month + 1:02d}-01"
        write_tif(folder / f"s2_{month}.tif", optical[:, at], nodata=65535, names=bands, **place)
        # the stack stores 10 ** ((dB + 83) / 20), as its makers scale backscatter to 16 bits
        decibel = (20 * np.log10(radar[:, at]) - 83).astype(np.float32)
        write_tif(folder / f"s1_{month}.tif", decibel, names=("VV", "VH"), **place)
        for kind, name, more in (("sentinel2", "s2", {}), ("sentinel1", "s1", {"unit": "dB"})):
            one = {"name": f"{name}-{month}", "kind": kind, "path": f"{name}_{month}.tif"}
            sources.append({**one, "date": when, **more})
    write_tif(folder / "raw_s1.tif", radar[:, at], names=("VV", "VH"), **place)
    write_tif(folder / "dem.tif", layers(shared, "elevation")[0].astype(np.float32), **place)
    corine_legend(folder / "clc.csv", shared)
    images = [one["name"] for one in sources] + ["dem"]
    sources += [
        {"name": "dem", "kind": "dsm", "path": "dem.tif", "date": 2021, "licence": "Copernicus"},
        {"name": "rules", "kind": "rules", "of": f"s2-{months[0]}"},
        {
            "name": "corine",
            "kind": "landcover",
            "path": str(shared / "belgium" / "CLC2018_V2020_20u1_flanders.tif"),
            "legend_csv": "clc.csv",
            "date": 2018,
            "licence": "Copernicus-Land",
            "attribution": "European Union, Copernicus Land Monitoring Service",
        },
        {"name": "model", "kind": "predicted", "of": images},
    ]
    return {
        "name": "waremme",
        "grid": {"bbox": [664000, 5611120, 665000, 5612120], "crs": UTM, "resolution": 10},
        "date": 2021,
        "classes": [10, 30, 40, 50, 60, 80],
        "rounds": 2,
        "block": 25,
        "sources": sources,
    }


def corine_legend(path: Path, shared: Path) -> None:
    """Write the legend that comes with the map in our columns, with shares by its groups."""
    known = legend("corine")
    shares = {"Pastures": {"grass": 0.8, "crop": 0.2}, "Non-irrigated arable land": {"crop": 1}}
    groups = {
        "Continuous urban fabric": {"built": 1.0},
        "Discontinuous urban fabric": {"built": 0.5, "grass": 0.3, "tree": 0.2},
        "Agricultural areas": {"crop": 0.6, "grass": 0.3, "tree": 0.1},
        "Forest and seminatural areas": {"tree": 0.8, "grass": 0.2},
        "Water bodies": {"water": 1.0},
    }
    columns = ["value", "name", "title", "color", "tree", "grass", "crop", "built", "water"]
    with (shared / "belgium" / "CLC2018_V2018_legend_grouped.csv").open() as source:
        rows = list(csv.DictReader(source))
    with path.open("w", newline="") as target:
        table = csv.DictWriter(target, columns)
        table.writeheader()
        for row in rows:
            value, title = int(row["value"]), row["class"].strip()
            share = shares.get(title) or groups.get(row["group"].strip(), {})
            one = known.classes[known.index(value)]
            table.writerow(
                {"value": value, "name": one.name, "title": title, "color": one.color, **share}
            )


def band(out: Path, name: str) -> np.ndarray[Any, Any]:
    with rasterio.open(out / f"{name}.tif") as one:
        return one.read(1)


@pytest.fixture(scope="module")
def waremme_run(shared, tmp_path_factory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("waremme")
    area = write_yaml(folder / "area.yaml", waremme(folder, shared, (6, 7, 9)))
    return folder / "out", run_area(area, folder / "out")


def test_waremme_says_what_it_cannot_promise(waremme_run):
    _, metrics = waremme_run
    assert metrics["reference"] is None
    assert metrics["estimate"] is None
    said = " ".join(metrics["notes"])
    assert "0 answered anchors" in said
    assert "not calibrated" in said
    assert "say little here" in said
    for name, row in metrics["sources"].items():
        assert row["before"] is None, name
        assert row["why"] == "no reference points", name


def test_waremme_gives_something_to_every_source(waremme_run):
    out, metrics = waremme_run
    given = metrics["corrections"]
    assert set(given) == set(metrics["sources"])
    assert given["corine"]["count"] == {"shares": 121}
    assert given["model"]["count"] == {"label_cells": 10_000, "chips": 16}
    assert given["rules"]["count"] == {"symbols": 5}
    for name in ("s2-6", "s1-6", "dem"):
        assert f"corrections/{name}/registration.json" in given[name]["files"]
    for row in given.values():
        assert row["expected_precision"] is None
        for path in row["files"]:
            assert (out / path).stat().st_size


def test_waremme_does_not_pretend_to_be_sure(waremme_run):
    out, metrics = waremme_run
    families = [set(one) for one in metrics["families"]]
    assert {"model", "rules"} in families  # both read the image
    assert (band(out, "probability") > 0.9).mean() < 0.05
    refined = band(out / "corrections" / "corine", "corrected_map")
    assert set(np.unique(refined)) == {40, 50}  # nobody was sure enough to refine it


def test_radar_in_raw_numbers_is_refused(shared, tmp_path):
    settings = waremme(tmp_path, shared, (6,))
    for one in settings["sources"]:
        if one["name"] == "s1-6":
            one |= {"path": "raw_s1.tif"}
            del one["unit"]
    area = write_yaml(tmp_path / "area.yaml", settings)
    result = glocal("run", area, "--out", tmp_path / "out")
    assert result.exit_code == 3
    assert "neither dB" in result.stderr
    assert "raw_s1.tif" in result.stderr


ISLAND = (240_000, 30_000, 250_000, 40_000)


@pytest.fixture(scope="module")
def island_run(shared, tmp_path_factory) -> tuple[Path, dict[str, Any]]:
    folder, data = tmp_path_factory.mktemp("island"), shared / "saotome-dsm-worldcover"
    maps = [
        {
            "name": f"wc{year}",
            "kind": "landcover",
            "path": str(data / f"worldcover_{year}_{version}_N00E006.tif"),
            "legend": "worldcover",
            "date": year,
        }
        for year, version in ((2020, "v100"), (2021, "v200"))
    ]
    heights = {
        "name": "dsm",
        "kind": "dsm",
        "path": str(data / "Copernicus_DSM_COG_10_N00_00_E006_00_DEM.tif"),
        "date": "2011/2016",
        "licence": "Copernicus",
    }
    settings = {
        "name": "sao-tome",
        "grid": {"bbox": list(ISLAND), "crs": "EPSG:32632", "resolution": 20},
        "date": 2021,
        "sources": [*maps, heights],
    }
    area = write_yaml(folder / "area.yaml", settings)
    return folder / "out", run_area(area, folder / "out")


def test_two_years_of_one_map_are_one_voice(island_run):
    out, metrics = island_run
    assert metrics["families"] == [["wc2020", "wc2021"]]
    # one map believed at its word would be 0.8 at most; saying it twice adds nothing
    assert band(out, "probability").max() < 0.8
    assert band(out, "entropy").mean() > 0.5


def test_the_maps_disagree_and_nobody_is_corrected(island_run):
    out, metrics = island_run
    before = [band(out / "corrections" / name, "corrected_map") for name in ("wc2020", "wc2021")]
    assert 0.01 < (before[0] != before[1]).mean() < 0.2
    for name in ("wc2020", "wc2021"):
        row = metrics["corrections"][name]
        assert row["count"] == {}
        assert row["expected_precision"] is None
        assert row["note"] == "all who speak here share its roots: nobody can check it"


def test_the_abstention_says_why(island_run):
    _, metrics = island_run
    said = " ".join(metrics["notes"])
    assert "all sources share one root" in said
    assert "expect abstention" in said
    assert "say little here" in said
    assert "OSM" not in said
    assert metrics["licence"] == "CC-BY-4.0"
