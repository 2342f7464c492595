"""Tables of who says what of which item, with gold: two crowds, and EuroSAT patches on maps.

EuroSAT (Helber et al. 2019): a patch of 640 m is an item, its class is the gold. What speaks:
CORINE 2018, where a majority class of the patch is known; LUCAS 2018, where a surveyor
stood in it; and two readings of its picture, ``colour`` (values of the three bands) and
``texture`` (steps between neighbouring pixels), which share a root. Both readings are
forests that learned from patches in blocks of half a degree without any of these items, so
none of the gold has taught them. EuroSAT was labelled with the European Urban Atlas, whose
rural classes follow CORINE's nomenclature: gold and CORINE are cousins.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from sklearn.ensemble import RandomForestClassifier

from glocal.core.interval import Interval
from glocal.core.legend import ClassDef, Crosswalk, Legend
from glocal.core.legends import code_symbols
from glocal.core.legends import legend as known_legend
from glocal.core.observation import Anchors, Observations
from glocal.core.provenance import Provenance
from glocal.loop.score.baselines.crowd import Votes
from glocal.train.data.splits import blocks
from glocal.train.tasks.classification.scenes import Scenes, read_scenes
from glocal.train.tasks.classification.statistics import band_statistics

__all__ = ["Table", "crowd", "eurosat"]

FAITH = 0.7
"""How far a word is believed before any data is seen."""

CORINE: Mapping[str, Mapping[int | str, float]] = {
    "AnnualCrop": {"211": 1, "212": 1, "213": 1, "241": 0.5, "242": 0.5, "243": 0.4, "244": 0.3},
    "Forest": {"141": 0.3, "243": 0.1, "244": 0.4, "311": 1, "312": 1, "313": 1, "324": 0.5},
    "HerbaceousVegetation": {
        "124": 0.4, "141": 0.4, "142": 0.6, "243": 0.2, "321": 1, "322": 1, "323": 1, "324": 0.5,
        "333": 1, "411": 1, "412": 1, "421": 1,
    },
    "Highway": {"122": 1},
    "Industrial": {"121": 1, "123": 1, "124": 0.6, "131": 1, "132": 1, "133": 1},
    "Pasture": {"231": 1, "242": 0.3, "243": 0.3, "244": 0.3},
    "PermanentCrop": {"221": 1, "222": 1, "223": 1, "241": 0.5, "242": 0.2},
    "Residential": {"111": 1, "112": 1, "141": 0.3, "142": 0.4},
    "River": {"511": 1, "522": 0.5},
    "SeaLake": {"422": 1, "423": 1, "512": 1, "521": 1, "522": 0.5, "523": 1},
}  # fmt: skip
"""How far EuroSAT would call a CORINE class so; ours, not fitted, from the definitions of the
nomenclature (Kosztra et al. 2019) and of EuroSAT (Helber et al. 2019). Beaches,
rocks, burnt ground and ice (331, 332, 334, 335) have no counterpart and say nothing."""

LUCAS: Mapping[str, Mapping[str, float]] = {
    "Artificial land": {"Highway": 1, "Industrial": 1, "Residential": 1},
    "Bare land": {},
    "Cropland": {"AnnualCrop": 1, "PermanentCrop": 1},
    "Grassland": {"HerbaceousVegetation": 1, "Pasture": 1},
    "Shrubland": {"HerbaceousVegetation": 1},
    "Water": {"River": 1, "SeaLake": 1},
    "Wetland": {"HerbaceousVegetation": 1},
    "Woodland": {"Forest": 1},
}
"""The eight headings of LUCAS (Eurostat, technical reference C3), shared evenly."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Table:
    """Votes of sources on items, and the class of some items."""

    name: str
    classes: tuple[str, ...]
    workers: tuple[str, ...]
    roots: tuple[str, ...]
    """What each worker's words come from."""

    votes: Votes
    gold_item: NDArray[np.int64]
    """Shape (G,)."""

    gold: NDArray[np.int64]
    """Shape (G,), class of these items."""

    block: NDArray[np.int64]
    """Shape (G,), gold of one block is never split, nor drawn apart."""

    def __len__(self) -> int:
        return len(self.votes.count)

    @property
    def legend(self) -> Legend:
        """The classes."""
        return Legend(
            name="table",
            classes=tuple(
                ClassDef(value=i + 1, name=f"class{i}", title=one, color="808080")
                for i, one in enumerate(self.classes)
            ),
        )

    def sources(self) -> list[Observations]:
        """Return every worker as a source that speaks of cells in a row, one per item."""
        grid = GeoBox.from_bbox((0, 0, 10 * len(self), 10), crs="EPSG:32633", shape=(1, len(self)))
        votes, words = self.votes, self.votes.opinion.shape[1]
        said = np.zeros((len(self.workers), 1, len(self)), np.uint8)
        said[votes.worker, 0, votes.item] = votes.label + 1
        return [
            Observations(
                source=f"{i:04d} {self.workers[i]}",
                support="cells",
                geobox=grid,
                symbols=symbols,
                crosswalk=_crosswalk(self.legend, votes.opinion[i], words),
                phenomenon_time=Interval.parse("2018"),
                provenance=_by(self.workers[i], self.roots[i]),
            )
            for i, symbols in enumerate(said)
        ]

    def anchors(self, use: NDArray[np.bool_]) -> Anchors:
        """Return some of the gold as reference points."""
        item = self.gold_item[use]
        return Anchors(
            x=item * 10.0 + 5,
            y=np.full(len(item), 5.0),
            shares=np.eye(len(self.classes))[self.gold[use]],
            weight=np.ones(len(item)),
            record=np.array([f"gold{i}" for i in item]),
            provenance=_by("gold", "gold"),
        )


def _crosswalk(legend: Legend, opinion: NDArray[np.float64], words: int) -> Crosswalk:
    known = opinion.sum(axis=1) > 0
    return Crosswalk(
        symbols=tuple(f"word{i}" for i in range(words)),
        target=legend,
        matrix=np.where(known[:, None], opinion, 1 / len(legend)),
        confidence=np.where(known, FAITH, 0.0),
    )


def _by(who: str, root: str) -> Provenance:
    return Provenance(
        activity="label", agent=who, licences=frozenset({"Apache-2.0"}), roots=frozenset({root})
    )


def crowd(folder: Path) -> Table:
    """Return a crowd from ``labels.csv`` (worker, task, label) and ``gold.csv`` (task, label)."""
    labels, gold = pd.read_csv(folder / "labels.csv"), pd.read_csv(folder / "gold.csv")
    labels = labels.drop_duplicates(["worker", "task"], keep="last")
    classes = sorted({*labels.label.unique()})
    item, tasks = pd.factorize(labels.task)
    worker, people = pd.factorize(labels.worker)
    known = gold[gold.task.isin(tasks) & gold.label.isin(classes)]
    names = tuple(f"worker {one}" for one in people)
    return Table(
        name=folder.name,
        classes=tuple(map(str, classes)),
        workers=names,
        roots=names,
        votes=Votes.plain(item, worker, np.searchsorted(classes, labels.label)),
        gold_item=pd.Index(tasks).get_indexer(known.task),
        gold=np.searchsorted(classes, known.label),
        block=np.arange(len(known)),
    )


def eurosat(folder: Path) -> Table:
    """Return the patches where CORINE or LUCAS speaks beside the picture."""
    scenes = read_scenes(folder / "eurosat_rgb_open.zip")
    places = pd.read_csv(folder / "eurosat_lonlat.csv").set_index("k").loc[list(scenes.names)]
    block = blocks(places.longitude, places.latitude)
    names = pd.Index(scenes.names)
    corine = pd.read_csv(folder / "clc2018_in_patch.csv").set_index("name").clc_major
    lucas = pd.read_csv(folder / "lucas_in_patch.csv").set_index("name").lucas
    heard = names.isin(corine.index) | names.isin(lucas.index)
    item = pd.Series(np.arange(heard.sum()), index=names[heard])
    symbol = code_symbols("corine")
    colour, texture = _readings(scenes, heard, ~np.isin(block, block[heard]))
    spoken = (
        (item[corine.index].to_numpy(), np.array([symbol[code] - 1 for code in corine])),
        (item[lucas.index].to_numpy(), np.array([list(LUCAS).index(one) for one in lucas])),
        (item.to_numpy(), colour),
        (item.to_numpy(), texture),
    )
    return Table(
        name="EuroSAT",
        classes=scenes.classes,
        workers=("CORINE", "LUCAS", "colour", "texture"),
        roots=("CORINE", "LUCAS", "picture", "picture"),
        votes=_votes(spoken, _opinions(scenes.classes)),
        gold_item=item.to_numpy(),
        gold=scenes.labels[heard],
        block=block[heard],
    )


def _readings(
    scenes: Scenes, heard: NDArray[np.bool_], teach: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the classes that colour and texture give the heard patches."""
    images = scenes.images
    step = np.abs(np.diff(images.astype(np.int16), axis=3))
    said = []
    for features in (band_statistics(images), band_statistics(step)):
        forest = RandomForestClassifier(200, min_samples_leaf=3, random_state=0)
        forest.fit(features[teach], scenes.labels[teach])
        said.append(forest.predict(features[heard]).astype(np.int64))
    return said[0], said[1]


def _opinions(classes: tuple[str, ...]) -> NDArray[np.float64]:
    """Return what the words of the four sources mean, (4, words, classes)."""
    titles = [one.title[:3] for one in known_legend("corine").classes]
    opinion = np.zeros((4, len(titles), len(classes)))
    for k, name in enumerate(classes):
        for code, share in CORINE[name].items():
            opinion[0, titles.index(str(code)), k] = share
        for word, shares in enumerate(LUCAS.values()):
            opinion[1, word, k] = shares.get(name, 0)
        opinion[2:, k, k] = 1
    total = opinion.sum(axis=2, keepdims=True)
    return np.divide(opinion, total, out=opinion, where=total > 0)


def _votes(
    spoken: tuple[tuple[NDArray[np.int64], NDArray[np.int64]], ...], opinion: NDArray[np.float64]
) -> Votes:
    items = len(spoken[-1][0])
    return Votes(
        item=np.concatenate([item for item, _ in spoken]),
        worker=np.concatenate([np.full(len(one[0]), i) for i, one in enumerate(spoken)]),
        label=np.concatenate([label for _, label in spoken]),
        opinion=opinion,
        count=np.ones(items),
        known=np.zeros((items, opinion.shape[2])),
    )
