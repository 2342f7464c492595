"""Every source is told what a round found: the same corrections in every file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glocal.core.correction import Corrections
from glocal.core.findings import Findings
from glocal.core.promise import UNCHECKED, sharpness_of
from glocal.core.provenance import Terms
from glocal.core.result import Displacement
from glocal.loop.area.area import Area
from glocal.loop.rounds.findings import findings_of, told
from glocal.loop.rounds.turns import Turn, under
from glocal.sources.kind import Reading, Written


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Teller:
    """Tells sources what was found, as far as points that were held out let it be believed."""

    checked: Mapping[str, NDArray[Any]]
    """What was said of each source at reference points that it was made without
    (`summary.held_out`)."""

    shifts: Mapping[str, Displacement]
    """How far layers lie off."""

    _views: dict[Terms, tuple[Area, Turn]] = field(default_factory=dict)
    """The loop run anew for those who can't accept all evidence; it does not change by round."""

    def tell(self, area: Area, turn: Turn) -> dict[str, Corrections]:
        """Return the corrections of all sources whose records can be corrected."""
        out = {}
        for reading, findings in self._findings(area, turn, records_only=True):
            corrections = told(reading, findings)
            if corrections is not None:
                out[reading.name] = corrections
        return out

    def give(self, area: Area, turn: Turn, folder: Path) -> dict[str, Written]:
        """Write what every source is given into ``folder/<source>/``; uploads nothing."""
        out = {}
        for reading, findings in self._findings(area, turn):
            corrections = told(reading, findings)
            given = reading.kind.write(reading, findings, corrections, folder / reading.name)
            note = "" if given.corrections is None else given.corrections.note
            text = " ".join(one for one in (given.note, note) if one)
            out[reading.name] = replace(given, note=text)
        return out

    def _findings(
        self, area: Area, turn: Turn, *, records_only: bool = False
    ) -> Iterator[tuple[Reading, Findings]]:
        """Yield each source, as its community may see it, with what was found about it."""
        for one in area.readings:
            if records_only and not one.kind.records:
                continue
            view, seen = self._view(area, turn, one.kind.terms)
            reading = next(row for row in view.readings if row.name == one.name)
            checked = self.checked.get(one.name)
            judged = checked is not None and checked.ndim == 2
            yield (
                reading,
                findings_of(
                    view,
                    seen,
                    reading,
                    shift=self.shifts.get(one.name),
                    held_out=checked,
                    sharpness=sharpness_of(*np.asarray(checked).T) if judged else UNCHECKED,
                ),
            )

    def _view(self, area: Area, turn: Turn, terms: Terms | None) -> tuple[Area, Turn]:
        if terms is None or area.is_whole_under(terms):
            return area, turn
        if terms not in self._views:
            self._views[terms] = under(area, turn, terms)
        return self._views[terms]
