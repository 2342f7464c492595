"""Histories: what was in force when, who counts, and that no person comes out."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import osmium
import pytest

from glocal.core import legends
from glocal.core.grid import area_geobox
from glocal.core.interval import Interval
from glocal.errors import BadSourceError, SourceUnavailableError
from glocal.sources.osm.history import ages_at, read_versions, slice_history
from glocal.sources.osm.read import observe_osm
from glocal.sources.osm.tags import retaggable
from tests.sources.osm.giving import found, give

LEGEND = legends.legend("worldcover")
HISTORY = "history/andorra-8cbb0a.osh.pbf"


def way(number: int, version: int, year: int, who: int, tags: dict[str, str] | None) -> str:
    """Return one version of a square; without tags it is a deletion."""
    first = 10 * number
    inside = "" if tags is None else "".join(
        f'<nd ref="{first + k}"/>' for k in (1, 2, 3, 4, 1)
    ) + "".join(f'<tag k="{k}" v="{v}"/>' for k, v in tags.items())  # fmt: skip
    return (
        f'<way id="{number}" version="{version}" timestamp="{year}-01-01T00:00:00Z" uid="{who}" '
        f'user="Person {who}" changeset="5" visible="{str(tags is not None).lower()}">'
        f"{inside}</way>"
    )


MEADOW, FARM, WOOD = {"landuse": "meadow"}, {"landuse": "farmland"}, {"natural": "wood"}
LINES = [
    way(1, 1, 2010, 7, MEADOW), way(1, 2, 2012, 8, FARM), way(1, 3, 2015, 7, MEADOW),
    way(2, 1, 2011, 7, WOOD),
    way(3, 1, 2011, 7, WOOD), way(3, 2, 2013, 9, None), way(3, 3, 2016, 9, WOOD),
    way(4, 1, 2011, 7, WOOD), way(4, 2, 2013, 9, None),
    way(5, 1, 2011, 7, {"highway": "path"}), way(6, 1, 2018, 7, WOOD),
]  # fmt: skip


@pytest.fixture(scope="module")
def history(tmp_path_factory) -> Path:
    nodes = [
        f'<node id="{10 * n + k + 1}" version="1" timestamp="2009-01-01T00:00:00Z" uid="7" '
        f'user="Person 7" changeset="5" lat="{47 + dy}" lon="{9 + n / 100 + dx}"/>'
        for n in range(1, 7)
        for k, (dx, dy) in enumerate(((0, 0), (0.004, 0), (0.004, 0.004), (0, 0.004)))
    ]
    path = tmp_path_factory.mktemp("history") / "small.osh"
    path.write_text(f'<osm version="0.6">{"".join([*nodes, *LINES])}</osm>', encoding="utf-8")
    return path


def moment(year: int) -> datetime:
    return datetime(year, 6, 1, tzinfo=UTC)


def at(history: Path, year: int) -> dict[int, tuple]:
    versions = read_versions(history)
    ages = ages_at(versions, moment(year))
    columns = (
        versions.osm_id[ages.row], versions.version[ages.row], versions.symbol[ages.row],
        ages.contributors, ages.retags, ages.deletions, ages.stratum(),
    )  # fmt: skip
    return {row[0]: row[1:] for row in zip(*(one.tolist() for one in columns), strict=True)}


def test_what_was_known_at_a_date(history) -> None:
    assert at(history, 2012) == {
        1: (2, "landuse=farmland", 2, 1, 0, 4),
        2: (1, "natural=wood", 1, 0, 0, 1),
        3: (1, "natural=wood", 1, 0, 0, 1),
        4: (1, "natural=wood", 1, 0, 0, 1),
    }
    assert at(history, 2019) == {
        1: (3, "landuse=meadow", 2, 2, 0, 4),
        2: (1, "natural=wood", 1, 0, 0, 1),
        3: (3, "natural=wood", 2, 0, 1, 4),
        6: (1, "natural=wood", 1, 0, 0, 1),
    }
    assert at(history, 2008) == {}


def test_nothing_later_enters(history, tmp_path) -> None:
    cut = tmp_path / "cut.osh"
    text = history.read_text("utf-8")
    for line in LINES:
        if any(f'"{year}-' in line for year in range(2013, 2019)):
            text = text.replace(line, "")
    cut.write_text(text, encoding="utf-8")
    assert at(cut, 2012) == at(history, 2012)


@pytest.mark.parametrize("year", [2008, 2012, 2014, 2017, 2020])
def test_a_slice_holds_the_last_version_before_its_date(history, tmp_path, year) -> None:
    out = slice_history(history, moment(year), tmp_path / "day.osm.pbf")
    held = {
        one.id: (one.version, {tag.k: tag.v for tag in one.tags})
        for one in osmium.FileProcessor(str(out), osmium.osm.WAY)
    }
    expected = {}
    for one in osmium.FileProcessor(str(history), osmium.osm.WAY):
        if one.timestamp <= moment(year):
            expected[one.id] = (one.version, {tag.k: tag.v for tag in one.tags}, one.deleted)
    assert held == {key: row[:2] for key, row in expected.items() if not row[2]}
    people = {(one.uid, one.user, one.changeset) for one in osmium.FileProcessor(str(out))}
    assert people <= {(0, "", 0)}


def test_a_history_is_a_source_with_strata(history) -> None:
    geobox = area_geobox((499_000, 5_204_000, 506_000, 5_207_000), "EPSG:32632", 20)
    one = observe_osm(history, geobox, LEGEND, interval=Interval.of_year(2019))
    order = np.argsort(one.columns["osm_id"])
    assert one.record[order].tolist() == ["way/1@3", "way/2@1", "way/3@3", "way/6@1"]
    assert one.stratum[order].tolist() == [4, 1, 4, 1]
    assert one.columns["retags"][order].tolist() == [2, 0, 0, 0]
    assert one.columns["life"][order] == pytest.approx([9, 8, 8, 1], abs=0.01)


def test_what_is_no_history_is_refused(tmp_path) -> None:
    with pytest.raises(SourceUnavailableError, match="check the path"):
        read_versions(tmp_path / "none.osh.pbf")
    plain = tmp_path / "plain.osm"
    plain.write_text('<osm version="0.6"></osm>')
    with pytest.raises(BadSourceError, match="full history"):
        read_versions(plain)
    broken = tmp_path / "broken.osh.pbf"
    broken.write_bytes(b"no osm at all")
    with pytest.raises(SourceUnavailableError, match=r"broken\.osh\.pbf"):
        read_versions(broken)


def test_a_real_slice_is_the_extract_of_that_day_and_names_nobody(shared, tmp_path) -> None:
    day = datetime(2013, 5, 28, 20, tzinfo=UTC)
    path = shared / "osm" / HISTORY
    out = slice_history(path, day, tmp_path / "day.osm")
    ways = {(one.id, one.version) for one in osmium.FileProcessor(str(out), osmium.osm.WAY)}
    extract = shared / "osm" / "andorra-20130528.osm.pbf"
    real = {(one.id, one.version) for one in osmium.FileProcessor(str(extract), osmium.osm.WAY)}
    assert len(ways & real) > 0.97 * len(real)
    names = {one.user for one in osmium.FileProcessor(str(path), osmium.osm.WAY) if one.user}
    assert len(names) > 100
    for one in (out, *_proposals(out, tmp_path)):
        text = one.read_bytes().decode("utf-8", "replace")
        found = [name for name in names if f'"{name}"' in text and not name.isdigit()]
        assert not found, one.name
        assert "user=" not in text
        assert "changeset=" not in text


def _proposals(extract: Path, folder: Path) -> tuple[Path, ...]:
    """Return the files of some proposals about an extract."""
    geobox = area_geobox((370_000, 4_700_000, 400_000, 4_725_000), "EPSG:32631", 50)
    one = observe_osm(extract, geobox, LEGEND, interval=Interval.of_year(2013))
    tags = one.columns["tags"].tolist()
    doubted = np.flatnonzero([retaggable(held, "shrub") for held in tags])[:60].tolist()
    wish = found(one, dict.fromkeys(doubted, ("modify", "shrub", 0.9)))
    batch, files = give(one, wish, folder / "osm", extract=extract)
    assert batch.rows.counts()["modify"] > 5
    return tuple(files)
