"""Field points as a kind of source: they are told our doubts, and where to look next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import geopandas as gpd
import numpy as np

from glocal.core.correction import Corrections
from glocal.core.findings import Doubts, Findings
from glocal.core.interval import Interval
from glocal.core.legend import Legend
from glocal.core.observation import Observations
from glocal.core.promise import LIKELIER_THAN_NOT, threshold_for
from glocal.core.provenance import Provenance
from glocal.core.result import relative_entropy
from glocal.sources.answers.asked import Asked
from glocal.sources.answers.content import Content
from glocal.sources.answers.rows import column_of, is_answer_table
from glocal.sources.answers.settled import settled
from glocal.sources.answers.verdict import Heard
from glocal.sources.config import PointsConfig, SourceConfig
from glocal.sources.field.forms import read_form
from glocal.sources.field.sampling import expected_information, plan_visits, write_visits
from glocal.sources.field.write import Verdicts, encode_field
from glocal.sources.kind import Kind, Reading, Score, Truth, Window, Written, needed
from glocal.sources.points.read import in_part, observe_points
from glocal.sources.scoring import records_right
from glocal.sources.telling import corrections_of

DOUBTED = 0.1
"""A point is flagged when its class is right with less than this probability."""

SUSPECT = 0.5
VISITS = 30
"""Places to look next that are drawn, at most."""

SUBMITTED = ("__system", "__id", "meta-inst")
"""How columns of ODK's submissions begin."""


class FieldConfig(PointsConfig, SourceConfig):
    """Field points as an ordinary source; the same keys as anchors, and a name."""

    kind: Literal["insitu"]

    def check(self, others: Sequence[SourceConfig], anchors: PointsConfig | None) -> None:
        """Refuse points that are anchors and evidence at once: they would score themselves."""
        if anchors is None or self.path.resolve() != anchors.path.resolve():
            return
        if None in (self.part, anchors.part) or self.part == anchors.part:
            raise ValueError(
                f"sources.{self.name} reads the same points as anchors, which must stay unseen; "
                "give one of them part: first and the other part: second"
            )


class Field(Kind):
    """Points with a class, at positions known to some accuracy."""

    Config = FieldConfig
    scored = False
    unscored = "its own points would be judge in their own case: nobody read them a second time"
    channels = MappingProxyType(
        {
            "odk": "ODK Central submissions (.csv, .json, .geojson) with sample_id",
            "kobo": "KoboToolbox submissions (.csv, .json, .geojson) with sample_id",
        }
    )

    def hear(
        self, content: Content, asked: Asked, legend: Legend, class_column: str | None
    ) -> Heard | None:
        """Return what people found where they were sent, from submissions of their forms."""
        rows, columns = content.rows, content.columns
        if {"_uuid", "meta/rootuuid"} & columns:
            channel = "kobo"
        elif (
            "key" in columns
            or any(one.startswith(SUBMITTED) for one in columns)
            or (column_of(rows, ("sample_id",)) and not is_answer_table(rows))
        ):
            channel = "odk"
        else:
            return None
        return read_form(rows, content.path.name, channel, asked, legend, class_column)

    def read(self, config: FieldConfig, window: Window) -> Reading:
        """Read the points inside the area, with classes in their observers' words."""
        seen = observe_points(
            config.path,
            window.geobox,
            window.legend,
            source=config.name,
            root=f"insitu:{config.name}",
            columns={str(k): v for k, v in config.columns.items()},
            crs=config.crs,
            interval=Interval.parse(config.date) if config.date else window.interval,
            position_sd_m=config.position_sd_m,
            class_names=dict(config.classes),
            licence=config.licence,
        )
        if config.part:
            seen = seen.take(in_part(seen.record, config.part, window.seed))
        sample = window.sample
        shared = sample is not None and sample.resolve() == config.path.resolve()
        return self.stated(config, window, seen, of_anchors=shared)

    def receive(self, reading: Reading, findings: Findings) -> Corrections:
        """Return points of another class, and points that are doubted without an edit."""
        source, doubts = reading.says, _doubts(findings)
        names, said = np.array(reading.window.legend.names), source.symbols > 0
        done = settled(findings.answers, source.record, source.words, names[doubts.proposed])
        open_ = doubts.supported & ~done
        may = open_ & said & (doubts.probability > LIKELIER_THAN_NOT)
        threshold, precision = threshold_for(doubts.probability[may], reading.window.precision)
        edit = may & (doubts.probability >= threshold)
        rows = np.flatnonzero(edit | (open_ & said & (doubts.correct < DOUBTED)))
        fate = np.where(edit[rows], "modify", "flag")
        return corrections_of(
            source,
            findings,
            record=source.record[rows],
            fault=np.where(edit[rows], "retag", "doubt"),
            action=fate,
            fate=fate,
            current=source.words[rows],
            proposed=names[doubts.proposed[rows]],
            probability=np.where(edit, doubts.probability, 1 - doubts.correct)[rows],
            support=source.geometry[rows],
            threshold=threshold,
            precision=precision,
        )

    def write(
        self, reading: Reading, findings: Findings, corrections: Corrections | None, folder: Path
    ) -> Written:
        """Write the points with our doubts, and a plan of visits."""
        config, source = reading.config, reading.says
        made_of = Provenance.derive("fuse", [findings.provenance, source.provenance])
        credit = {"licence": made_of.licence, "attribution": made_of.credit}
        columns = {str(key): name for key, name in config.columns.items()}
        doubts, names = _doubts(findings), np.array(reading.window.legend.names)
        places = needed(findings.places, f"{findings.source}: findings about points carry places")
        suspect, fail = (doubts.supported & (doubts.correct < at) for at in (SUSPECT, DOUBTED))
        verdicts = Verdicts(
            p_correct=doubts.correct,
            flags=np.where(fail, 4, np.where(suspect, 3, 1)).astype(np.uint8),  # QARTOD
            suggested=np.where(doubts.supported, names[doubts.proposed], ""),
            places=places,
            layer_shift=findings.shift,
        )
        files = encode_field(
            corrections, source, verdicts, config.path, columns, folder, crs=config.crs, **credit
        )
        visits = visits_for(reading, findings)
        files += write_visits(visits, folder, **credit)
        count = {**(corrections.counts() if corrections else {}), "visit": len(visits)}
        return Written(files=tuple(files), count=count, corrections=corrections)

    def corrected(
        self, reading: Reading, findings: Findings, corrections: Corrections
    ) -> Observations:
        """Return the points with the proposed classes, as symbols of their own."""
        source, legend = reading.says, reading.window.legend
        edits = corrections.take(corrections.action == "modify")
        new = dict(zip(edits.record.tolist(), edits.proposed.tolist(), strict=True))
        walk, known = source.crosswalk, len(source.crosswalk.symbols)
        symbols = source.symbols.astype(np.uint16)
        for i in np.flatnonzero(np.isin(source.record, edits.record)).tolist():
            symbols[i] = 1 + known + legend.index(new[str(source.record[i])])
        own = replace(
            walk,
            symbols=(*walk.symbols, *(f"corrected:{name}" for name in legend.names)),
            matrix=np.concatenate([walk.matrix, np.eye(len(legend))]),
            confidence=np.concatenate([walk.confidence, np.ones(len(legend))]),
        )
        return replace(source, symbols=symbols, crosswalk=own)

    def against_truth(self, reading: Reading, truth: Truth, folder: Path, told: Any) -> Score | str:
        """Score the classes of points against the ground where the observer really stood."""
        source, legend = reading.says, reading.window.legend
        mine = told[(told.source == source.source) & (told.action == "modify")]
        new = dict(zip(mine.record, mine.proposed, strict=True))
        rows = zip(source.record.tolist(), source.said_class().tolist(), strict=True)
        after = np.array([legend.index(new[a]) if a in new else b for a, b in rows])
        return records_right("points right", source, after, truth, "points.parquet", "id")


def _doubts(findings: Findings) -> Doubts:
    return needed(findings.doubts, f"{findings.source}: findings about points carry doubts")


def visits_for(reading: Reading, findings: Findings) -> gpd.GeoDataFrame:
    """Draw places where observers like those of this source would tell most.

    Places that were too hard to tell from afar are raised (`sampling.raised`).
    """
    estimate, lack = findings.estimate, "findings about points carry their reliability"
    reliability = needed(findings.reliability, f"{findings.source}: {lack}")
    entropy = np.clip(relative_entropy(estimate.log_p), 0, 1).astype(np.float64)
    number, hard = min(VISITS, entropy.size), findings.too_hard
    hard = np.zeros(entropy.shape, np.int32) if hard is None else hard
    reason = np.where(estimate.disagreement > entropy / 2, "sources disagree", "sources say little")
    return plan_visits(
        expected_information(estimate.p, reliability.confusion.mean(axis=0)),
        estimate.geobox,
        number,
        seed=reading.window.seed,
        square_m=_side(entropy.shape, number) * abs(float(estimate.geobox.resolution.x)),
        places=hard,
        entropy=entropy,
        reason=np.where(hard > 0, "too hard to tell from afar", reason),
    )


def _side(shape: tuple[int, ...], number: int) -> int:
    """Return the cells along a square that holds one visit: ten, or fewer in a small area.

    >>> _side((768, 1536), 30), _side((48, 48), 30), _side((8, 8), 30)
    (10, 8, 1)
    """
    height, width = shape
    return next(step for step in range(10, 0, -1) if (height // step) * (width // step) >= number)
