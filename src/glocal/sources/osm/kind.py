"""OpenStreetMap as a kind of source: its mappers are told, one object at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from glocal.core.answer import Answered
from glocal.core.correction import Corrections
from glocal.core.findings import Findings
from glocal.core.interval import Interval
from glocal.core.legend import Legend
from glocal.core.observation import Observations
from glocal.core.provenance import Terms
from glocal.errors import BadSourceError
from glocal.io.vector import read_table
from glocal.sources.answers.asked import Asked
from glocal.sources.answers.content import Content
from glocal.sources.answers.verdict import Heard
from glocal.sources.config import Date, FilePath, Licence, SourceConfig
from glocal.sources.kind import (
    Exam,
    Kind,
    Reading,
    Rechecked,
    Score,
    Truth,
    Window,
    Written,
    needed,
)
from glocal.sources.osm.batch import make_batch
from glocal.sources.osm.change import read_change
from glocal.sources.osm.decide import decide
from glocal.sources.osm.echo import muted
from glocal.sources.osm.file import has_versions, is_history
from glocal.sources.osm.heard_edits import read_diff, read_extract
from glocal.sources.osm.heard_tasks import read_maproulette
from glocal.sources.osm.index import INDEX
from glocal.sources.osm.page import promised
from glocal.sources.osm.read import observe_osm, with_edits
from glocal.sources.osm.stale import recheck
from glocal.sources.osm.tags import classify, crosswalk_of
from glocal.sources.osm.write import write_batch
from glocal.sources.record import element_of
from glocal.sources.scoring import records_right, said_at

TERMS = Terms(
    community="OSM",
    licences=frozenset({"ODbL-1.0", "CC0-1.0", "PDDL-1.0", "public-domain", "Copernicus"}),
    waiver="+osm-waiver",
    own="ODbL-1.0",
)
"""Licences whose evidence may enter an edit of OpenStreetMap.

CC BY and other licences that ask for a notice are absent on purpose: OSM needs a
written waiver of the rights holder for them (OSMF licence compatibility guidance). A
source with such a waiver says so with the suffix ``+osm-waiver``.
"""

DIFFS = (".adiff", ".osc", ".xml")
NO_CHANGE_FILE = (
    "no OsmChange: this layer has neither nodes nor versions, so edits go out as "
    "MapRoulette tag fixes."
)


class OsmConfig(SourceConfig):
    """OpenStreetMap: ``.osm.pbf``, ``.osm``, or Geofabrik free layers."""

    kind: Literal["osm"]
    path: FilePath
    date: Date | None = None
    licence: Licence = "ODbL-1.0"
    attribution: str | None = None
    salt_file: FilePath | None = None
    """Secret key of the contributor strata; stays outside every output."""

    batch: Annotated[int, Field(ge=1, le=10_000)] = 200
    """Most edits, and most questions, that go out at once; the rest waits."""

    def secrets(self) -> frozenset[str]:
        """Return the key's field."""
        return frozenset({"salt_file"})


class Osm(Kind):
    """Objects with tags, versions and a community that decides on each edit itself."""

    Config = OsmConfig
    channels = MappingProxyType(
        {
            "maproulette": "MapRoulette, GeoJSON of challenge/view/ID (.geojson, .json)",
            "extract": "a newer OpenStreetMap extract (.osm.pbf, .osm, .osm.gz)",
            "history": "a full history of OpenStreetMap (.osh.pbf, .osh)",
            "diff": "an augmented diff or OsmChange (.adiff, .osc, .xml)",
        }
    )
    metric = "tag correctness where mapped"
    terms = TERMS
    teaches = True
    as_it_is = "where mapped"

    def read(self, config: OsmConfig, window: Window) -> Reading:
        """Read the areas that touch the window, with what their tags say."""
        seen = observe_osm(
            config.path,
            window.geobox,
            window.legend,
            source=config.name,
            interval=Interval.parse(config.date) if config.date else window.interval,
            salt=config.salt_file.read_bytes() if config.salt_file else None,
            licence=config.licence,
        )
        return self.stated(config, window, seen)

    def hear(
        self, content: Content, asked: Asked, legend: Legend, class_column: str | None
    ) -> Heard | None:
        """Return what mappers answered in MapRoulette, or did in the data."""
        path, suffixes = content.path, content.suffixes
        if ".osh" in suffixes:
            return read_extract(path, asked, legend, history=True)
        if ".pbf" in suffixes or ".osm" in suffixes:
            with path.open("rb") as handle:
                is_diff = b"<action" in handle.read(4096)
            if not is_diff:
                return read_extract(path, asked, legend, history=has_versions(path))
            return read_diff(path, asked, legend)
        if suffixes and suffixes[-1] in DIFFS:
            return read_diff(path, asked, legend)
        if any("mr_taskStatus" in (one.get("properties") or {}) for one in content.features):
            return read_maproulette(list(content.features), asked, legend)
        if {"taskid", "taskstatus"} <= content.columns:
            raise BadSourceError(
                f"{path.name} is MapRoulette's CSV, whose columns shift; take the GeoJSON of the "
                "challenge instead: https://maproulette.org/api/v2/challenge/view/ID"
            )
        return None

    def unheard(self, reading: Reading, answers: Sequence[Answered]) -> Reading:
        """Return the source without tags that mappers set because we proposed them."""
        statements = reading.says
        for one in answers:
            statements = muted(statements, one.about(reading.name))
        return replace(reading, statements=statements)

    def receive(self, reading: Reading, findings: Findings) -> Corrections:
        """Decide on every doubted, unmapped or displaced object (`decide`)."""
        config: OsmConfig = reading.config
        return decide(reading.says, findings, reading.window, TERMS, config.batch)

    def write(
        self, reading: Reading, findings: Findings, corrections: Corrections | None, folder: Path
    ) -> Written:
        """Write OsmChange, JOSM, MapRoulette and Osmose files, and a page for mappers."""
        told = needed(
            corrections, f"{reading.name}: corrections of OpenStreetMap are decided first"
        )
        source, config = reading.says, reading.config
        elements = bool(source.columns["has_metadata"].any())
        extract = config.path if elements and not is_history(config.path) else None
        promise = promised(told, findings, reading.window.precision)
        batch = make_batch(told, source, extract, reading.window.dates)
        files = write_batch(batch, folder, promise)
        fates = ("modify", "create", "survey", "missing", "flag", "later")
        return Written(
            files=files,
            count={**dict.fromkeys(fates, 0), **batch.rows.counts()},
            note="" if elements else NO_CHANGE_FILE,
            corrections=batch.rows,
        )

    def recheck(self, folder: Path, newer: Path) -> Rechecked | None:
        """Compare the proposals in ``folder`` with a newer extract."""
        path = folder / INDEX
        return recheck(read_table(path), newer) if path.exists() else None

    def corrected(
        self, reading: Reading, findings: Findings, corrections: Corrections
    ) -> Observations:
        """Return the objects with the tags that they would have."""
        return with_edits(reading.says, corrections)

    def at_points(
        self, reading: Reading, findings: Findings, corrections: Corrections | None, exam: Exam
    ) -> dict[str, list[Any]]:
        """Return the class of the object at each point, and what was stated of the object."""
        source, doubts = reading.says, findings.doubts
        if corrections is None or doubts is None:
            raise ValueError(f"{reading.name}: corrections are decided before they are scored")
        owner = source.owner_of_cells().ravel()[exam.cells]
        sent = corrections.take(corrections.action == "modify")
        return {
            **said_at(source, self.corrected(reading, findings, corrections), exam.cells),
            "stated": np.round(np.append(0, doubts.probability)[owner], 6).tolist(),
            "proposed": np.append(-1, doubts.proposed)[owner].tolist(),
            "edits": np.round(sent.probability, 6).tolist(),
        }

    def against_truth(self, reading: Reading, truth: Truth, folder: Path, told: Any) -> Score | str:
        """Score the tags of objects, each once, with the exported change applied."""
        source, change = reading.says, folder / "proposal.osc"
        edits: dict[str, int] = {}
        for one in read_change(change) if change.exists() else ():
            row = classify(one.tags)
            if one.osm_type in ("way", "relation") and row is not None:
                meaning = crosswalk_of((row.symbol,), source.legend).matrix[0]
                edits[f"{one.osm_type}/{one.osm_id}"] = int(meaning.argmax())
        rows = zip(source.record.tolist(), source.said_class().tolist(), strict=True)
        after = np.array([edits.get(element_of(name), old) for name, old in rows], np.int64)
        return records_right("objects right", source, after, truth, "objects.parquet", "record")
