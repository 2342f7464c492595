"""A cadastre as a kind of source: its surveyors are told which parcels are used otherwise."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import geopandas as gpd
import numpy as np

from glocal.core.correction import Corrections
from glocal.core.findings import Findings
from glocal.core.legend import Crosswalk
from glocal.core.observation import Observations
from glocal.core.promise import threshold_for
from glocal.core.provenance import Provenance
from glocal.io.vector import read_table, write_geojson
from glocal.sources.config import FilePath, SourceConfig
from glocal.sources.kind import Exam, Kind, Reading, Window, Written
from glocal.sources.scoring import said_at

__all__ = ["Cadastre", "CadastreConfig"]


class CadastreConfig(SourceConfig):
    """A table of parcels with the columns ``parcel`` and ``use``."""

    kind: Literal["cadastre"]
    path: FilePath


class Cadastre(Kind):
    """Parcels, each of one use."""

    Config = CadastreConfig
    metric = "parcels of the right use"

    def read(self, config: CadastreConfig, window: Window) -> Reading:
        """Read the parcels with their use in words."""
        table = read_table(config.path).to_crs(str(window.geobox.crs))
        words, symbol = np.unique(table["use"].astype(str), return_inverse=True)
        meaning = {word: {word: 1.0} for word in words.tolist()}
        statements = Observations(
            source=config.name,
            support="objects",
            geobox=window.geobox,
            symbols=(symbol + 1).astype(np.uint8),
            crosswalk=Crosswalk.from_shares(window.legend, meaning, confidence=0.8),
            phenomenon_time=window.interval,
            provenance=Provenance(
                activity="read", agent="surveyors", licences=frozenset({"CC0-1.0"}),
                roots=frozenset({f"cadastre:{config.name}"}),
            ),
            geometry=np.asarray(table.geometry.array),
            record=np.array([f"parcel/{one}" for one in table["parcel"]]),
        )  # fmt: skip
        return Reading(
            kind=self,
            config=config,
            window=window,
            provenance=statements.provenance,
            statements=statements,
        )

    def receive(self, reading: Reading, findings: Findings) -> Corrections:
        """Return the parcels that are used otherwise, as sure as the wanted precision asks."""
        source, doubts = reading.says, findings.doubts
        assert doubts is not None
        least, precision = threshold_for(
            doubts.probability[doubts.supported], reading.window.precision
        )
        row = np.flatnonzero(doubts.supported & (doubts.probability >= least))
        return Corrections(
            source=source.source,
            record=source.record[row],
            fault=np.full(len(row), "retag"),
            action=np.full(len(row), "modify"),
            fate=np.full(len(row), "modify"),
            current=source.words[row],
            proposed=np.array(reading.window.legend.names)[doubts.proposed[row]],
            probability=doubts.probability[row],
            support=source.geometry[row],
            crs=str(reading.window.geobox.crs),
            because=findings.because,
            round=findings.estimate.round,
            provenance=findings.provenance,
            threshold=least if len(row) else None,
            expected_precision=precision if len(row) else None,
        )

    def write(
        self, reading: Reading, findings: Findings, corrections: Corrections | None, folder: Path
    ) -> Written:
        """Write the parcels to look at again."""
        assert corrections is not None
        table = gpd.GeoDataFrame(
            {"parcel": corrections.record, "use": corrections.current,
             "proposed": corrections.proposed, "probability": corrections.probability},
            geometry=corrections.support, crs=corrections.crs,
        )  # fmt: skip
        credit = findings.provenance
        path = write_geojson(
            folder / "parcels.geojson", table, licence=credit.licence, attribution=credit.credit
        )
        return Written(files=(path,), count=corrections.counts(), corrections=corrections)

    def corrected(
        self, reading: Reading, findings: Findings, corrections: Corrections
    ) -> Observations:
        """Return the parcels with the uses that were proposed."""
        source = reading.says
        words = dict(zip(corrections.record.tolist(), corrections.proposed.tolist(), strict=True))
        used = [words.get(one, word) for one, word in zip(source.record, source.words, strict=True)]
        alphabet = sorted({*source.crosswalk.symbols, *words.values()})
        crosswalk = Crosswalk.from_shares(source.legend, {one: {one: 1.0} for one in alphabet})
        symbols = np.searchsorted(alphabet, used).astype(np.uint8) + np.uint8(1)
        return replace(source, symbols=symbols, crosswalk=crosswalk)

    def at_points(
        self, reading: Reading, findings: Findings, corrections: Corrections | None, exam: Exam
    ) -> dict[str, list[Any]]:
        """Return the use of the parcel at each point."""
        assert corrections is not None
        return said_at(reading.says, self.corrected(reading, findings, corrections), exam.cells)
