"""People's answers as a kind of source: heard as evidence, and told which of them others doubt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from glocal.core.correction import Corrections
from glocal.core.findings import Findings
from glocal.core.interval import Interval
from glocal.core.legend import Legend
from glocal.core.observation import Anchors, Observations
from glocal.io.vector import write_csv
from glocal.sources.answers.asked import Asked
from glocal.sources.answers.content import Content
from glocal.sources.answers.rows import is_answer_table
from glocal.sources.answers.store import load_answers
from glocal.sources.answers.verdict import Heard
from glocal.sources.config import Date, FilePath, Licence, SourceConfig
from glocal.sources.kind import Kind, Reading, Window, Written
from glocal.sources.people.rates import rates_of
from glocal.sources.people.review import Bias, observe_review, reference_visits, table_of
from glocal.sources.people.tables import read_review

AGAIN = 0.2
"""An answer that is right with less than this probability is worth a second, blind look."""

Rate = Annotated[float, Field(gt=0, lt=1)]


class ReviewConfig(SourceConfig):
    """People's answers to the proposals of an earlier run, as ``glocal answers`` keeps them."""

    stage: ClassVar[int] = 2
    kind: Literal["review"]
    path: FilePath
    """The folder ``DIR/answers``."""

    accept_if_right: Rate = 0.9
    """How often a right suggestion is accepted."""

    accept_if_wrong: Rate = 0.4
    """How often a wrong suggestion is accepted because it was shown."""

    right_if_blind: Rate = 0.85
    """How often a class that people name without a suggestion is right."""

    date: Date | None = None
    licence: Licence = "unknown"
    attribution: str | None = None

    @model_validator(mode="after")
    def _a_bias(self) -> ReviewConfig:
        _ = self.bias
        return self

    @property
    def bias(self) -> Bias:
        """The rates as one value, which knows their rules."""
        return Bias(**{one.name: getattr(self, one.name) for one in fields(Bias)})


class People(Kind):
    """Those who looked and answered; evidence, never gold."""

    Config = ReviewConfig
    scored = False
    brings_answers = True
    channels = MappingProxyType(
        {
            "layer": "a GeoPackage of ours, edited in QGIS: column status or answer (.gpkg)",
            "review": "our own review table: columns proposal and answer "
            "(.csv, .geojson, .parquet)",
        }
    )
    records = False
    why_never = "answers are scored nowhere: they were asked where others were in doubt"
    no_truth = "no corrected version of it is exported"

    def hear(
        self, content: Content, asked: Asked, legend: Legend, class_column: str | None
    ) -> Heard | None:
        """Return the answers of a table with one row per correction."""
        if not is_answer_table(content.rows):
            return None
        channel = "layer" if content.suffixes[-1] == ".gpkg" else "review"
        return read_review(content.rows, content.path.name, channel, asked, legend)

    def read(self, config: ReviewConfig, window: Window) -> Reading:
        """Read a folder of answers; what an earlier folder answered is not heard again."""
        stored = load_answers(config.path)
        answered = stored.answered(str(window.geobox.crs))
        before = [one.says.record for one in window.earlier if one.answers is not None]
        licences = {config.licence}
        if config.licence == "unknown":
            # Answers are under the licence of those whom they are about.
            kinds = {one.name: one.kind.terms for one in window.earlier}
            about = set(answered.source[answered.verdict != ""].tolist())
            own = {name: terms.own for name, terms in kinds.items() if terms is not None}
            licences = {own.get(name, stored.licence) for name in about}
        statements = observe_review(
            answered,
            window.geobox,
            window.legend,
            source=config.name,
            run=stored.run,
            bias=config.bias,
            interval=Interval.parse(config.date) if config.date else window.interval,
            licences=frozenset(licences),
            known={name for one in before for name in one.tolist()},
        )
        visited = reference_visits(stored, window.legend)
        return self.stated(config, window, statements, answers=answered, visited=visited)

    def calibrated(
        self, reading: Reading, everybody: Sequence[Reading], anchors: Anchors | None
    ) -> Reading:
        """Return the answers with the rates that reference points teach."""
        people = [one for one in everybody if one.answers is not None]
        declared = {one.name: one.config.bias for one in people}
        rates = rates_of([one.says for one in people], anchors, declared)[reading.name]
        table = table_of(len(reading.window.legend), rates.bias)
        return replace(reading, statements=replace(reading.says, declared=table), known=rates)

    def kin(self, reading: Reading, everybody: Sequence[Observations]) -> frozenset[str]:
        """Return all who answered: one answer is no witness of another."""
        return frozenset(one.source for one in everybody if one.support == "answers")

    def write(
        self, reading: Reading, findings: Findings, corrections: Corrections | None, folder: Path
    ) -> Written:
        """Write each answer with the probability that it is right, the most doubtful first.

        The probability comes from the estimate without any answers. Nothing here judges a
        person: answers carry no names.
        """
        source = reading.says
        size, total = source.summed(np.exp(findings.others))
        # P(what the answer says) in its place; NaN where it holds no cell.
        meant = source.crosswalk.matrix[np.maximum(source.symbols.astype(np.int64) - 1, 0)] > 0
        mean = total / np.maximum(size, 1)[:, None]
        right = np.where(size > 0, (mean * meant).sum(axis=1), np.nan)
        order = np.lexsort((source.record, right))
        order = order[np.isfinite(right[order])]
        credit = (findings.provenance.licence, findings.provenance.credit)
        columns = (source.record, source.words, right, np.where(right < AGAIN, "yes", "no"))
        rows = [
            [name, said, round(p, 4), again, *credit]
            for name, said, p, again in zip(*(one[order].tolist() for one in columns), strict=True)
        ]
        header = ["proposal", "answer", "p_right", "look_again", "licence", "attribution"]
        return Written(
            files=(write_csv(folder / "answers_checked.csv", header, rows),),
            count={"answers": len(rows), "look_again": int((right[order] < AGAIN).sum())},
            note=f"answers are evidence, never gold: {reading.known}",
        )
