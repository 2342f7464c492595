"""The release check asks for what is missing, and its copies mark every proposed element."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from glocal.sources.osm.change import change_xml, josm_xml
from glocal.sources.osm.file import Whole

SCRIPT = Path(__file__).parents[1] / "scripts" / "release_check.py"


@pytest.fixture(scope="module")
def check() -> ModuleType:
    spec = importlib.util.spec_from_file_location("release_check", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def elements() -> tuple[list[Whole], list[Whole], list[Whole]]:
    corners = [(10.0, 50.0), (10.1, 50.0), (10.1, 50.1)]
    old = [
        Whole(osm_type="node", osm_id=i, version=1, tags={}, place=place)
        for i, place in enumerate(corners, 1)
    ]
    ring = tuple(one.osm_id for one in old)
    way = Whole(
        osm_type="way", osm_id=9, version=3, tags={"natural": "wood"}, nodes=(*ring, ring[0])
    )
    area = Whole(
        osm_type="relation", osm_id=4, version=2, tags={"type": "multipolygon", "natural": "scrub"},
        members=(("way", 9, "outer"),),
    )  # fmt: skip
    new = [Whole(osm_type="way", osm_id=-1, version=0, tags={"natural": "water"}, nodes=(1, 2, 3))]
    return [way, area], new, old


def test_every_changed_element_is_marked_and_no_other(check: ModuleType) -> None:
    modify, create, context = elements()
    for text in (change_xml(modify, create), josm_xml(modify, create, context)):
        copy, number = check.marked(text)
        assert number == 3
        assert copy.count('v="farm"') == 3
        assert copy.count('v="multipolygon"') == 1
        assert not any(one in copy for one in ('v="wood"', 'v="scrub"', 'v="water"'))
    before = check.unchanged(josm_xml(modify, create, context))
    assert before.count("<node") == 3
    assert "<way" not in before


def test_a_missing_program_is_named_with_what_to_install(tmp_path: Path) -> None:
    gone = {"JOSM_JAR": str(tmp_path / "no.jar"), "QGIS_PYTHON": str(tmp_path / "nobody")}
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(tmp_path)],
        capture_output=True, text=True, check=False, env=gone,
    )  # fmt: skip
    assert done.returncode == 2
    for word in ("no.jar", "nobody", "apt-get install", "josm", "python3-qgis"):
        assert word in done.stderr
