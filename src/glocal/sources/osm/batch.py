"""Corrections together with the elements that they change, as the files of a batch need them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import shapely

from glocal.core.correction import Corrections
from glocal.core.interval import Interval
from glocal.core.observation import Observations
from glocal.sources.osm.change import MAX_TEXT, fresh_elements, parse_record
from glocal.sources.osm.file import Whole, read_context
from glocal.sources.osm.outline import new_elements
from glocal.sources.osm.place import lonlat
from glocal.sources.osm.tags import LAYER
from glocal.sources.record import element_of, version_of

IS_LAYER = (
    "No OsmChange: the source is a layer that has neither versions nor node references. "
    "Read the .osm.pbf extract to get one."
)
NO_EXTRACT = "No extract was given, so there is no OsmChange."


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Batch:
    """What goes out to mappers at once."""

    rows: Corrections
    """The surest first (`decide`)."""

    source: Observations
    """As it was read."""

    at: list[int | None]
    """Of each row its place in ``source``, None for what is not in it."""

    dates: Mapping[str, Interval]
    """When each image was taken, by its source."""

    base: Mapping[int, Whole]
    """Elements of edits before it, by row; none without an extract."""

    new: Mapping[int, list[Whole]]
    """Elements of each new area, ids from -1; the last one bears the tags."""

    context: tuple[Whole, ...]
    """Unchanged elements that the edited ones are drawn with."""

    notes: tuple[str, ...]

    def of_fate(self, *fates: str) -> list[int]:
        """Return the rows of these fates, the surest first."""
        return [int(i) for i in np.flatnonzero(np.isin(self.rows.fate, fates))]

    def edit(self, i: int) -> Any:
        """Return the `TagEdit` of a row that is an edit of tags, None for other rows."""
        return self.rows.columns["edit"][i] if self.rows.action[i] == "modify" else None

    @property
    def layer(self) -> bool:
        """Whether element types and old tags are inferred."""
        return "layer_rows" in self.source.columns

    def named(self, i: int) -> dict[str, str]:
        """Return the properties that name the element of a row, as far as it is known."""
        record, at, columns = str(self.rows.record[i]), self.at[i], self.source.columns
        if parse_record(record):
            return {"@id": element_of(record), "base_version": str(version_of(record))}
        if at is None or not str(self.source.words[at]).startswith(LAYER):
            return {}
        number = str(columns["osm_id"][at])
        if self.rows.fate[i] != "modify":
            return {"layer_row": record, "osm_id_of_layer": number}
        check = "element type and old tags; check both"
        name = f"{columns['osm_type'][at]}/{number}"
        return {"@id": name, "layer_row": record, "inferred": check}

    def why(self, i: int) -> str:
        """Return why a row is no edit, empty for one."""
        return str(self.rows.columns["why"][i])

    def edited(self) -> list[Whole]:
        """Return the elements of all edits that go out, after them."""
        rows = [i for i in self.of_fate("modify") if i in self.base]
        return [replace(self.base[i], tags=self.edit(i).applied(self.base[i].tags)) for i in rows]

    def drawn(self) -> list[Whole]:
        """Return the elements of all new areas, with ids that are unique among them."""
        out: list[Whole] = []
        for elements in self.new.values():
            shift = -len(out)
            out += [
                replace(
                    one,
                    osm_id=one.osm_id + shift,
                    nodes=tuple(ref + shift for ref in one.nodes),
                    members=tuple((kind, ref + shift, role) for kind, ref, role in one.members),
                )
                for one in elements
            ]
        return out


def make_batch(
    rows: Corrections, source: Observations, extract: Path | None, dates: Mapping[str, Interval]
) -> Batch:
    """Fetch the elements that ``rows`` change from the extract that was read.

    An element that is not as it was read any more is flagged instead of edited: the rows of the
    batch, not ``rows``, say what goes out.
    """
    layer = "layer_rows" in source.columns
    place = {record: i for i, record in enumerate(source.record.tolist())}
    base: dict[int, Whole] = {}
    notes = [IS_LAYER] if layer else [] if extract is not None else [NO_EXTRACT]
    context: list[Whole] = []
    if extract is not None and not layer:
        edits = np.flatnonzero(rows.fate == "modify").tolist()
        fresh, stale = fresh_elements(extract, [str(rows.record[i]) for i in edits])
        rows = _flagged(rows, stale)
        base = {i: fresh[rec] for i in edits if (rec := str(rows.record[i])) in fresh}
        context = read_context(extract, base.values())
        if stale:
            notes.append(f"{len(stale)} elements have changed since and are only flagged.")
    later = int((rows.fate == "later").sum())
    if later:
        notes.insert(0, f"{later} less probable edits are held back for a later batch.")
    return Batch(
        rows=rows,
        source=source,
        at=[place.get(record) for record in rows.record.tolist()],
        dates=dates,
        base=base,
        new=_new(rows),
        context=tuple(context),
        notes=tuple(notes),
    )


def _flagged(rows: Corrections, why: Mapping[str, str]) -> Corrections:
    """Return the corrections with these records only flagged, for a reason each."""
    out = np.isin(rows.record, list(why))
    pairs = zip(rows.record.tolist(), rows.columns["why"], strict=True)
    text = [why.get(record, old) for record, old in pairs]
    return replace(
        rows,
        action=np.where(out, "flag", rows.action),
        fate=np.where(out, "flag", rows.fate),
        columns={**rows.columns, "why": np.array(text, object)},
    )


def _new(rows: Corrections) -> dict[int, list[Whole]]:
    """Return the elements of new areas, tagged with the class and the evidence."""
    text = rows.provenance.credit  # left out where it is longer than OSM allows
    source = {"source": text} if 0 < len(text) <= MAX_TEXT else {}
    out = {}
    for i in np.flatnonzero(rows.fate == "create").tolist():
        outline = lonlat(np.array([shapely.force_2d(rows.support[i])]), rows.crs)[0]
        out[i] = new_elements(outline, rows.columns["edit"][i].set | source)
    return out
