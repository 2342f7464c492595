"""What the script that counts the house rests on."""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
from pathlib import Path

import pytest

from glocal.sources.kinds import KINDS

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def house():
    """Return the script as a module."""
    spec = importlib.util.spec_from_file_location("house", ROOT / "scripts" / "house.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["house"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["house"]


def test_it_knows_all_kinds_by_their_words(house):
    rooms = {type(kind).__module__.split(".")[2]: kind.words() for kind in KINDS}
    assert rooms == house.WORDS


def test_no_file_names_a_kind_outside_its_room(house):
    found = [
        one for path in house.files() for one in house.places(path, ast.parse(path.read_text()))
    ]
    assert found == []


@pytest.mark.parametrize(
    "text",
    [
        "from glocal.sources.osm.tags import classify",
        "import glocal.sources.osm.tags",
        "osm_objects = 1",
        "def read_osm(): ...",
        "class OsmReader: ...",
        "x = source.osm",
        "f(osm=1)",
        "if kind == 'osm': pass",
    ],
)
def test_naming_a_kind_is_found(house, text):
    path = house.TREES[0] / "loop" / "made_up.py"
    assert list(house.places(path, ast.parse(text)))


def test_modules_are_imported_late_in_one_place():
    late = [
        path.name
        for path in sorted((ROOT / "src").rglob("*.py"))
        if re.search(r"\bimport_module\b|__import__", path.read_text("utf-8"))
    ]
    assert late == ["later.py"]


def test_what_a_room_says_of_its_files_is_there():
    source = ROOT / "src" / "glocal"
    rooms = [path for path in source.rglob("__init__.py") if path.parent != source]
    told = [
        (room.parent, name)
        for room in rooms
        for name in re.findall(r"``([a-z_/]+)``", ast.get_docstring(ast.parse(room.read_text())))
    ]
    places = [(folder / name, source / name) for folder, name in told]
    assert len(told) > 100
    assert [
        str(at[0])
        for at in places
        if not any(one.is_dir() or one.with_suffix(".py").is_file() for one in at)
    ] == []
