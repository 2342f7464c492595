"""Spectral rules as a kind of source: they are told what their answers mean here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from glocal.core.correction import Corrections
from glocal.core.findings import Findings
from glocal.core.typing import Table
from glocal.io.vector import write_csv
from glocal.sources.config import PointsConfig, Slug, SourceConfig, check_of
from glocal.sources.kind import Exam, Kind, Reading, Window, Written, needed
from glocal.sources.rules.thresholds import NEEDED, observe_rules
from glocal.sources.scoring import pair


class RulesConfig(SourceConfig):
    """A physically based spectral classifier of one image."""

    kind: Literal["rules"]
    of: Slug
    """Name of an image source with the bands that the rules need."""

    def check(self, others: Sequence[SourceConfig], anchors: PointsConfig | None) -> None:
        """Refuse another source than an image that has the bands."""
        seeing = [one.name for one in others if one.sensor and one.sensor.has(*NEEDED)]
        check_of(self.name, (self.of,), seeing)


class Rules(Kind):
    """Published thresholds on spectral indices, or no answer."""

    Config = RulesConfig
    metric = "log-score of what its answers mean (nats, 0 is perfect)"
    records = False
    as_it_is = "as they are"
    no_truth = "no corrected version of it is exported"

    def read(self, config: RulesConfig, window: Window) -> Reading:
        """Classify the image that was read before."""
        image = window.images[config.of]
        statements = observe_rules(
            image.chip, image.clear, window.geobox, window.legend, source=config.name
        )
        return self.stated(config, window, statements)

    def write(
        self, reading: Reading, findings: Findings, corrections: Corrections | None, folder: Path
    ) -> Written:
        """Write what each answer means in this area: P(class | answer)."""
        source = reading.says
        credit = (findings.provenance.licence, findings.provenance.credit)
        rows = [
            [symbol, *np.round(row, 4).tolist(), *credit]
            for symbol, row in zip(source.crosswalk.symbols, _meaning(findings)[1:], strict=True)
        ]
        header = ["symbol", *source.legend.names, "licence", "attribution"]
        path = write_csv(folder / "recalibrated_symbols.csv", header, rows)
        return Written(
            files=(path,),
            count={"symbols": len(rows)},
            note="what each rule's answer means in this area: P(class | answer)",
        )

    def at_points(
        self, reading: Reading, findings: Findings, corrections: Corrections | None, exam: Exam
    ) -> dict[str, list[Any]]:
        """Return the probabilities of all classes, by the crosswalk and as the others find them."""
        source = reading.says
        symbol = source.symbols.ravel()[exam.cells].astype(np.int64)
        trust, classes = source.crosswalk.confidence[:, None], len(source.legend)
        table = trust * source.crosswalk.matrix + (1 - trust) / classes
        before = np.concatenate([np.full((1, classes), 1 / classes), table])
        told = pair(np.round(before[symbol], 6), np.round(_meaning(findings)[symbol], 6))
        return {"speaks": (symbol > 0).tolist(), **told}


def _meaning(findings: Findings) -> Table:
    return needed(findings.meaning, f"{findings.source}: findings about cells carry their meaning")
