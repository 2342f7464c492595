"""A model that learns in the loop, as a kind of source: it is told what everybody else says."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from pathlib import Path
from typing import Any, Literal

import numpy as np

from glocal.core.correction import Corrections
from glocal.core.findings import Findings
from glocal.core.interval import Interval
from glocal.core.labels import Labels
from glocal.core.observation import Observations
from glocal.core.provenance import Provenance
from glocal.core.typing import Codes, Layers
from glocal.io.raster import read_on
from glocal.sources.config import Names, PointsConfig, SourceConfig, check_of
from glocal.sources.kind import Exam, Kind, Learner, Reading, Score, Truth, Window, Written
from glocal.sources.models.predict import (
    FeatureKind,
    features,
    predict,
    predict_taught_by_all,
    weights_behind,
)
from glocal.sources.models.teach import GUARD, labels_given, taught_anew, taught_raw
from glocal.sources.models.write import encode_model
from glocal.sources.scoring import pair, right_or_wrong
from glocal.sources.stated import observe_stated


class ModelConfig(SourceConfig):
    """The model, trained on the loop's own soft labels, out of fold."""

    kind: Literal["predicted"]
    of: Names
    """Names of the image sources that it reads."""

    features: FeatureKind = "bands"
    """``bands``: values, ratios and local statistics; ``msgfm``: the image model's beside them."""

    def check(self, others: Any, anchors: PointsConfig | None) -> None:
        """Refuse to read what gives no pixels."""
        check_of(self.name, self.of, [one.name for one in others if one.sensor])


class Models(Kind, Learner):
    """Classifiers of pixels that every round teaches anew."""

    Config = ModelConfig
    metric = "class, taught by raw sources, then by the labels it is given"
    records = False

    def read(self, config: ModelConfig, window: Window) -> Reading:
        """Return what the model sees of every cell in its images."""
        images = [window.images[name] for name in config.of]
        clear = np.logical_and.reduce([image.clear for image in images])
        chips = [image.chip for image in images]
        behind = (*(chip.provenance for chip in chips), *weights_behind(config.features))
        return Reading(
            kind=self,
            config=config,
            window=window,
            provenance=Provenance.derive("predict out of fold", behind, used=(config.name,)),
            features=features(chips, clear, config.features),
            time=reduce(Interval.union, [chip.interval for chip in chips]),
        )

    def learn(
        self, reading: Reading, labels: Sequence[Labels], only: Codes | None = None
    ) -> Layers:
        """Return P(class) of every cell, shape (cells, K), out of fold; NaN where it can't see."""
        window = reading.window
        return predict(reading.sees, labels, window.fold, seed=window.seed, only=only)

    def learn_all(self, reading: Reading, labels: Labels) -> Layers:
        """Return the same by one model that all labels taught: for a map that is read."""
        return predict_taught_by_all(reading.sees, labels, seed=reading.window.seed)

    def state(
        self, reading: Reading, *probability: Layers, provenance: Provenance
    ) -> tuple[Observations, ...]:
        """Return the probabilities as symbols, with the probabilities beside them."""
        window = reading.window
        return observe_stated(
            *probability,
            geobox=window.geobox,
            legend=window.legend,
            source=reading.name,
            interval=reading.time or window.interval,
            provenance=provenance,
        )

    def write(
        self, reading: Reading, findings: Findings, corrections: Corrections | None, folder: Path
    ) -> Written:
        """Write soft labels from everybody but the model itself."""
        probability, weight = labels_given(reading, findings)
        window = reading.window
        files = encode_model(
            folder,
            probability=probability,
            weight=weight,
            geobox=window.geobox,
            legend=window.legend,
            interval=window.interval,
            images={name: window.images[name].chip for name in reading.config.of},
            block=window.block,
            fold=window.fold,
            seed=window.seed,
            source=f"../../rounds/{findings.estimate.round:03d}/item.json",
            licence=findings.provenance.licence,
            attribution=findings.provenance.credit,
        )
        chips = {one.name for one in files if one.name.startswith("chip_")}
        return Written(
            files=tuple(one for one in files if one.name not in chips),
            count={"label_cells": int((weight > 0).sum()), "chips": len(chips)},
            note="soft labels from everybody but the model itself, none within "
            f"{GUARD} cells of a reference point",
        )

    def at_points(
        self, reading: Reading, findings: Findings, corrections: Corrections | None, exam: Exam
    ) -> dict[str, list[Any]]:
        """Return what it says, taught by the sources as they are, then by its labels."""
        after = taught_anew(reading, exam, *labels_given(reading, findings))
        return pair(taught_raw(reading, exam), after)

    def against_truth(self, reading: Reading, truth: Truth, folder: Path, told: Any) -> Score | str:
        """Score a model that learns from the sources as they are, then from exported labels."""
        window = reading.window
        layers = [
            read_on(folder / "soft_labels.tif", window.geobox, band=1 + k)[0]
            for k in range(len(window.legend))
        ]
        weight, _ = read_on(folder / "label_weight.tif", window.geobox)
        after = taught_anew(reading, truth.exam, np.stack(layers, axis=-1), weight)
        real = truth.classes.ravel()
        before = taught_raw(reading, truth.exam)
        return right_or_wrong("cells right", before, after, real, truth.exam.cells)
