"""Land-cover maps as a kind of source: they are told a corrected map, patch by patch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import model_validator

from glocal.core import legends
from glocal.core.accuracy import AccuracyReport, sample_accuracy
from glocal.core.answer import Answered
from glocal.core.burn import burn
from glocal.core.correction import Corrections
from glocal.core.findings import Findings
from glocal.core.grid import cell_area_ha, cells_of_points
from glocal.core.interval import Interval
from glocal.core.legend import Crosswalk
from glocal.core.observation import Observations
from glocal.core.promise import LIKELIER_THAN_NOT, threshold_for
from glocal.core.provenance import Provenance
from glocal.core.typing import Codes, Table
from glocal.io.raster import read_on
from glocal.sources.answers.settled import settled_cells
from glocal.sources.config import Crs, Date, FilePath, Licence, SourceConfig, unknown
from glocal.sources.kind import Exam, Kind, Reading, Score, Truth, Window, Written, needed
from glocal.sources.maps.observe import observe_landcover
from glocal.sources.maps.patches import Base, MapChange, before_after, change_ids, from_to
from glocal.sources.maps.write import encode_map, encode_shares
from glocal.sources.patches import patch_labels, patches_of
from glocal.sources.scoring import right_or_wrong, said_at
from glocal.sources.telling import corrections_of

MIN_PATCH_CELLS = 4
"""Cells below which a patch is no correction of a map of fine cells."""

MIN_COARSE_CELLS = 100
"""The same where a coarse map is refined."""

LIKELY = 0.5
"""A coarse map is refined where the others find a class likelier than all the rest together."""

CELLS_PER_LOOK = 1000.0
"""Neighbouring cells repeat each other: about so many are one independent look at the shares."""

CONFIRMING = ("accepted", "already_fixed", "changed", "told")
"""Answers after which somebody who looked knows which class is there."""

HELD_OUT = (
    "at each point the corrected map was made without that point; areas are those of the map "
    "with all of them"
)
SPENT = "the points set reliabilities of this run, so they are not independent of the corrections"


class MapConfig(SourceConfig):
    """A categorical raster."""

    kind: Literal["landcover"]
    path: FilePath
    legend: str | None = None
    """Name of a known legend."""

    legend_csv: FilePath | None = None
    """A table of codes, where the legend is not a known one."""

    date: Date | None = None
    crs: Crs | None = None
    licence: Licence = "unknown"
    attribution: str | None = None

    @model_validator(mode="after")
    def _one_legend(self) -> MapConfig:
        if (self.legend is None) == (self.legend_csv is None):
            raise ValueError("exactly one of legend (a known name) and legend_csv must be given")
        if self.legend is not None and self.legend not in legends.legend_names():
            raise ValueError(f"legend: {unknown(self.legend, legends.legend_names())}")
        return self

    @model_validator(mode="before")
    @classmethod
    def _licence_of_legend(cls, values: Any) -> Any:
        known = isinstance(values, Mapping) and values.get("legend") in legends.legend_names()
        return {"licence": legends.licence(values["legend"]), **values} if known else values


class Maps(Kind):
    """Maps of fine cells, which speak cell by cell, and coarse ones, which speak of mixtures."""

    Config = MapConfig
    metric = "class correctness"
    teaches = True

    def read(self, config: MapConfig, window: Window) -> Reading:
        """Read the codes inside the area."""
        statements = observe_landcover(
            config.path,
            window.geobox,
            window.legend,
            source=config.name,
            legend_name=config.legend or "",
            interval=Interval.parse(config.date) if config.date else window.interval,
            crs=config.crs,
            licence=config.licence,
            legend_csv=config.legend_csv,
        )
        return self.stated(config, window, statements)

    def receive(self, reading: Reading, findings: Findings) -> Corrections | None:
        """Return patches of another class, at the wanted precision; of a coarse map none."""
        source, window, doubts = reading.says, reading.window, findings.doubts
        if source.support != "cells" or doubts is None:
            return None
        said = source.said_class()
        done = settled_cells(findings.answers, doubts.proposed, window.geobox, window.legend)
        done |= confirmed_classes(findings.answers, said, reading) == doubts.proposed
        may = doubts.supported & ~done & (said >= 0)
        may &= doubts.probability > LIKELIER_THAN_NOT
        threshold, precision = threshold_for(doubts.probability[may], window.precision)
        edit = may & (doubts.probability >= threshold)
        # a patch is large enough by what it becomes; it is told by what it was, piece by piece
        large = patch_labels(np.where(edit, 1 + doubts.proposed, 0), MIN_PATCH_CELLS) > 0
        found = patches_of(from_to(said, doubts.proposed, large), 1, window.geobox)
        _, after = before_after(found)
        words = np.array(["", *source.crosswalk.symbols])
        return corrections_of(
            source,
            findings,
            record=np.array(change_ids(found, _base(source, reading)), str),
            fault="patch",
            action="modify",
            fate="modify",
            current=words[found.commonest(source.symbols, len(words))],
            proposed=np.array(window.legend.names)[after],
            probability=np.clip(found.mean(doubts.probability), 0, 1),
            support=found.geometry,
            threshold=threshold,
            precision=precision,
        )

    def write(
        self, reading: Reading, findings: Findings, corrections: Corrections | None, folder: Path
    ) -> Written:
        """Write the corrected map; of a coarse one also the shares of classes in its cells."""
        source = reading.says
        others, original = np.exp(findings.others), source.class_of_cells()
        if source.support == "cells":
            return self._write_map(reading, findings, corrections, folder, original)
        files, shared = _write_shares(reading, findings, others, folder)
        window, confirmed = reading.window, confirmed_classes(findings.answers, original, reading)
        local = np.where(others.max(axis=-1) > LIKELY, others.argmax(axis=-1), original)
        local = np.where(source.owner_of_cells() > 0, local, -1)
        done = settled_cells(findings.answers, local, window.geobox, window.legend) & (local >= 0)
        local = np.where(confirmed >= 0, confirmed, np.where(done, original, local))
        told = self._write_map(reading, findings, None, folder, original, local)
        return Written(
            files=(*files, *told.files),
            count={"shares": shared},
            note="a finer, local map of the same cells, with the share of each class; what the map "
            f"says stays where no class is likelier than {LIKELY}",
        )

    def _write_map(
        self,
        reading: Reading,
        findings: Findings,
        corrections: Corrections | None,
        folder: Path,
        original: Codes,
        corrected: Codes | None = None,
    ) -> Written:
        source, window = reading.says, reading.window
        fine = source.support == "cells"
        if corrected is None:
            corrected = _corrected_classes(reading, findings, corrections)
        change = MapChange(
            original=original,
            corrected=corrected,
            others=np.exp(findings.others),
            geobox=window.geobox,
            legend=window.legend,
            base=_base(source, reading),
            corrections=corrections,
            confirmed=confirmed_classes(findings.answers, original, reading),
            voices=findings.voices,
        )
        honest = findings.held_out is not None
        points = findings.reference if honest else findings.anchors
        accuracy, why = _accuracy(change, findings, corrected, findings.held_out)
        before, _ = _accuracy(change, findings, original, None)
        made_of = Provenance.derive("fuse", [findings.provenance, source.provenance])
        files = encode_map(
            folder,
            change,
            accuracy=accuracy,
            accuracy_before=before,
            why_no_accuracy=why,
            licence=made_of.licence,
            attribution=made_of.credit,
            smallest=1 if fine else MIN_COARSE_CELLS,
            mmu_cells=MIN_PATCH_CELLS if fine else MIN_COARSE_CELLS,
            design={
                "sampling": "as drawn for the anchors, with their weights",
                "reference": points.provenance.agent if points else "none",
                "independent_of_corrections": honest,
                "note": HELD_OUT if honest else SPENT,
            },
        )
        count = corrections.counts() if corrections is not None else {}
        return Written(files=tuple(files), count=count, corrections=corrections)

    def corrected(
        self, reading: Reading, findings: Findings, corrections: Corrections
    ) -> Observations:
        """Return the map with its patches, and those that people confirmed, in our classes."""
        source, legend = reading.says, reading.window.legend
        k = len(legend)
        own = Crosswalk(
            symbols=legend.names, target=legend, matrix=np.eye(k), confidence=np.ones(k)
        )
        symbols = 1 + _corrected_classes(reading, findings, corrections)
        return replace(source, symbols=symbols.astype(np.uint16), crosswalk=own)

    def at_points(
        self, reading: Reading, findings: Findings, corrections: Corrections | None, exam: Exam
    ) -> dict[str, list[Any]] | None:
        """Return its class, before and after; a coarse map can't be asked about points."""
        source = reading.says
        if source.support != "cells":
            return None
        told = needed(
            corrections, f"{reading.name}: corrections are decided before they are scored"
        )
        return said_at(source, self.corrected(reading, findings, told), exam.cells)

    def why_not(self, reading: Reading) -> str:
        """Return why the quality of a map can't be measured."""
        source = reading.says
        if source.support == "mixtures":
            return f"{len(source)} coarse cells, and no independent shares of classes in them"
        return super().why_not(reading)

    def against_truth(self, reading: Reading, truth: Truth, folder: Path, told: Any) -> Score | str:
        """Score every cell of the map, and of the corrected map that was written."""
        source, window = reading.says, reading.window
        values, valid = read_on(folder / "corrected_map.tif", window.geobox)
        place = np.full(256, -1, np.int64)
        place[list(window.legend.values)] = np.arange(len(window.legend))
        after = np.where(valid, place[values.astype(np.int64)], -1).ravel()
        before, real = source.class_of_cells().ravel(), truth.classes.ravel()
        return right_or_wrong("cells right", before, after, real, np.arange(real.size))


def _base(source: Observations, reading: Reading) -> Base:
    return Base(
        name=source.source,
        version=", ".join(source.provenance.used),
        interval=source.phenomenon_time,
        now=reading.window.interval,
        names=reading.window.legend.names,
    )


def _corrected_classes(
    reading: Reading, findings: Findings, corrections: Corrections | None
) -> Codes:
    """Return the class of every cell (H, W) with the corrections made, -1 for none.

    So are patches that people confirmed after earlier runs, unless a new correction of the
    same place goes out.
    """
    source, legend = reading.says, reading.window.legend
    said = source.class_of_cells()
    confirmed = confirmed_classes(findings.answers, said, reading)
    classes = np.where(confirmed >= 0, confirmed, said)
    if corrections is not None and len(corrections):
        owner = burn(corrections.support, reading.window.geobox)
        new = np.array([-1, *(legend.index(name) for name in corrections.proposed.tolist())])
        classes = np.where((owner > 0) & (classes >= 0), new[owner], classes)
    return np.asarray(classes, np.int64)


def confirmed_classes(answers: tuple[Answered, ...], said: Codes, reading: Reading) -> Codes:
    """Return the class that people confirmed for each cell of a map, shape (H, W), -1 for none.

    ``said`` (H, W) is what the map says, as class positions. A patch counts only where the map
    still says what it said when it was asked: a newer version of the map has had its own way.
    Of several patches the last answered one counts.
    """
    legend, geobox = reading.window.legend, reading.window.geobox
    out = np.full(said.shape, -1, np.int64)
    for one in answers:
        now = np.where(one.stated != "", one.stated, one.proposed)
        known = np.isin(one.current, legend.names) & np.isin(now, legend.names)
        use = (one.fault == "patch") & known & np.isin(one.verdict, CONFIRMING)
        owner = burn(one.geometry[use], geobox)
        before, after = (
            np.array([-1, *(legend.index(name) for name in names[use].tolist())], np.int64)[owner]
            for names in (one.current, now)
        )
        out = np.where((before == said) & (said >= 0), after, out)
    return np.where(out == said, -1, out)


def _accuracy(
    change: MapChange, findings: Findings, classes: Codes, held_out: Any
) -> tuple[AccuracyReport | None, str]:
    """Return the area-adjusted accuracy of a map, or why there is none.

    ``held_out`` is the map's class at each point, where that is not ``classes`` itself.
    """
    points = findings.reference if findings.held_out is not None else findings.anchors
    if points is None:
        return None, "no anchors: accuracy needs a probability sample of reference points"
    at = cells_of_points(change.geobox, points.x, points.y)
    there = np.where(at >= 0, classes.ravel()[np.maximum(at, 0)], -1)
    there = there if held_out is None else np.where(there >= 0, held_out, -1)
    inside = there >= 0
    if (inside & points.answered).sum() < 2:
        return None, "fewer than two answered anchors lie on the map"
    size = np.bincount(classes[classes >= 0], minlength=len(change.legend))
    area: Table = np.asarray(size * cell_area_ha(change.geobox), np.float64)
    weight, names = points.weight[inside], change.legend.names
    shares = points.shares[inside]
    return sample_accuracy(there[inside], shares, area, weight=weight, names=names), ""


def _write_shares(
    reading: Reading, findings: Findings, others: Any, folder: Path
) -> tuple[list[Path], int]:
    """Write the shares of classes in the coarse cells; return the files and how many cells."""
    source, legend = reading.says, reading.window.legend
    size, mass = source.summed(others)
    there = size > 0
    total = mass[there]
    total /= total.sum(axis=1, keepdims=True)
    # Binomial: a share p that was looked at n times has the standard error sqrt(p (1 - p) / n).
    looks = np.maximum(size[there] / CELLS_PER_LOOK, 1.0)[:, None]
    made_of = Provenance.derive("fuse", [findings.provenance, source.provenance])
    files = encode_shares(
        folder,
        source.geometry[there],
        source.record[there],
        total,
        np.sqrt(total * (1 - total) / looks),
        legend,
        reading.window.geobox,
        stated=source.words[there],
        licence=made_of.licence,
        attribution=made_of.credit,
    )
    return files, int(there.sum())
