"""Every legend that can be estimated in corrects OpenStreetMap, whatever its codes and names."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.loop.areas import make_area, run_area, write_yaml

CLASSES = {
    "worldcover": {"tree": 10, "grass": 30, "crop": 40, "built": 50, "water": 80},
    "dynamicworld": {"tree": 1, "grass": 2, "crop": 4, "built": 6, "water": 0},
    "esri": {"tree": 2, "grass": 3, "crop": 5, "built": 7, "water": 1},
    "igbp": {"tree": 5, "grass": 10, "crop": 12, "built": 13, "water": 0},
    "corine": {"tree": 25, "grass": 18, "crop": 12, "built": 2, "water": 41},
    "scl": {"tree": 4, "grass": 4, "crop": 5, "built": 5, "water": 6},
}


@pytest.mark.parametrize("legend", CLASSES)
def test_each_known_legend_gives_a_tag_fix_and_a_new_area(legend: str, tmp_path: Path) -> None:
    codes = CLASSES[legend]
    path = make_area(tmp_path / "area", 72, 5)
    values = yaml.safe_load(path.read_text())
    for table in (values["anchors"], *(one for one in values["sources"] if one["name"] == "field")):
        table["classes"] = codes
    kept = [one for one in values["sources"] if one["name"] in ("osm", "map", "field")]
    values.update(
        legend=legend, classes=sorted(set(codes.values())), rounds=1, precision=0.6, sources=kept
    )
    metrics = run_area(write_yaml(path, values), tmp_path / "out")
    told = metrics["corrections"]["osm"]
    assert told["count"]["modify"] >= 1
    assert told["count"]["create"] >= 1
    assert {"proposal.osc", "maproulette.geojsonl", "new_areas.geojsonl"} <= {
        Path(one).name for one in told["files"]
    }
