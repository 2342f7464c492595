"""Scene classification: what an encoder's features are worth, beside what is free.

`run` does the whole comparison on pictures in class folders; the parts can be used alone.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from glocal.errors import BadSourceError, SourceUnavailableError
from glocal.train.data.splits import blocks, part_of
from glocal.train.tasks.classification.compare import difference, score, subsets
from glocal.train.tasks.classification.networks import (
    embed_all,
    fine_tune,
    fit_network,
    predict,
)
from glocal.train.tasks.classification.probes import (
    Prediction,
    forest_probe,
    knn_probe,
    linear_probe,
    majority,
)
from glocal.train.tasks.classification.scenes import Scenes, read_scenes
from glocal.train.tasks.classification.statistics import band_statistics
from glocal.train.tasks.dense import Settings, seeded
from msgfm.encoder import Encoder

PARTS = {"train": 0, "val": 1, "validation": 1, "test": 2}
NEAR = (
    "no places given: pictures were dealt at random, so that neighbours may stand on both sides "
    "and every accuracy is too high; give longitudes and latitudes"
)

Note = Callable[[str], None]
Rows = NDArray[np.int64]
Probe = Callable[..., Prediction]
Runs = dict[str, list[Prediction | Rows]]
Fit = Callable[..., nn.Module]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Division:
    """Which pictures teach, choose and test; all arrays have shape (N,)."""

    part: NDArray[np.int8]
    """0 train, 1 validation, 2 test."""

    block: Rows
    """Number of the place; pictures of one block are never in two parts."""

    note: str = ""

    def rows(self, part: int) -> Rows:
        """Return the rows of one part."""
        return np.flatnonzero(self.part == part)


def divide(names: Sequence[str], table: Path | None) -> Division:
    """Divide pictures into parts by a table of places or of parts, or at random without one.

    The first column of the CSV holds the ``names``, file names without suffix. With columns
    ``longitude`` and ``latitude`` (degrees) blocks of half a degree are dealt by `splits.part_of`
    with seed 0, whose test part the shipped weights have not seen. With a column ``part`` (train,
    val or test) that is used, and ``block`` (integers) if there is one.

    Raises
    ------
    SourceUnavailableError
        The table can't be read.
    BadSourceError
        A picture has no row, a column is missing, a place is not a number, a part is unknown.
    """
    if table is None:
        block = np.arange(len(names))
        return Division(part=part_of(block), block=block, note=NEAR)
    rows = _rows(table, names)
    try:
        if "part" in rows[0]:
            part = np.array([PARTS[row["part"]] for row in rows], dtype=np.int8)
            number = [int(row.get("block") or i) for i, row in enumerate(rows)]
            return Division(part=part, block=np.array(number))
        place = np.array([(float(row["longitude"]), float(row["latitude"])) for row in rows])
        block = blocks(place[:, 0], place[:, 1])
    except (KeyError, ValueError) as error:
        raise BadSourceError(
            f"{table} needs columns longitude and latitude in degrees, or part with "
            f"{', '.join(PARTS)}: {error}"
        ) from error
    return Division(part=part_of(block), block=block)


def run(
    images: Path,
    encoder: Encoder,
    *,
    table: Path | None = None,
    gsd_m: float | None = None,
    seeds: int = 3,
    limit: int | None = None,
    network: Settings | None = None,
    tuning: Settings | None = None,
    note: Note = lambda text: None,
) -> dict[str, Any]:
    """Compare an encoder with its floors on pictures in class folders.

    Every run learns from a random four fifths of the training blocks, drawn by its seed, and is
    tested on the whole test part; what has to be chosen is chosen on the validation part. The
    floors are the commonest class, the values of each band (`band_statistics`) read by a linear
    probe, by neighbours and by trees, and features of encoders of the same shape with ``seeds``
    random initialisations.

    Parameters
    ----------
    images, limit
        As in `read_scenes`.
    encoder
        With sensor ``rgb``.
    table
        As in `divide`.
    gsd_m
        Metres per pixel of the pictures, which the encoders are told; ``None`` stands for 0.2, an
        aerial photograph.
    seeds
        Runs per method, >= 1.
    network, tuning
        How a small network is learned from the labels alone, and how the encoder is fine-tuned,
        with random ones of its shape beside it; ``None`` leaves it out.
    note
        Called with a line of text when a step is done.

    Returns
    -------
    dict
        JSON-ready: ``counts`` of pictures and blocks per part, ``classes``, ``methods`` (name ->
        accuracy, balanced accuracy, spread over runs, 95 % interval over test blocks, what was
        chosen), ``differences`` of the encoder from each floor, paired by picture, and ``notes``.

    Raises
    ------
    BadSourceError, SourceUnavailableError
        Pictures or table can't be used, or a part is empty.
    """
    scenes = read_scenes(images, limit=limit)
    division = divide(scenes.names, table)
    counts = [len(division.rows(part)) for part in range(3)]
    if 0 in counts or seeds < 1:
        raise BadSourceError(
            "training, validation and test need pictures each and at least one seed, got "
            f"{counts} pictures and {seeds} seeds; give more places or a table with parts"
        )
    note(f"{len(scenes)} pictures of {len(scenes.classes)} classes read")
    task = _Task(
        scenes=scenes,
        division=division,
        train=subsets(division.rows(0), division.block, seeds=seeds),
        gsd_m=gsd_m,
        note=note,
    )
    return task.summary({**task.frozen(encoder), **task.learned(encoder, network, tuning)})


def random_like(encoder: Encoder, seed: int) -> Encoder:
    """Return an encoder of the same shape with random weights."""
    with seeded(seed):
        return Encoder(encoder.config).eval()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Task:
    """Pictures, their division, and the rows that each run learns from."""

    scenes: Scenes
    division: Division
    train: list[Rows]
    gsd_m: float | None
    note: Note

    def probe(
        self, name: str, features: Sequence[NDArray[np.float32]], probes: Mapping[str, Probe]
    ) -> Runs:
        """Return the predictions of each probe; run i reads features i, or the only ones."""
        val, test, y = self.division.rows(1), self.division.rows(2), self.scenes.labels
        found: Runs = {f"{name}, {how}": [] for how in probes}
        for i, rows in enumerate(self.train):
            x = features[i % len(features)]
            for how, one in probes.items():
                given = one(x[rows], y[rows], x[test], validation=(x[val], y[val]))
                found[f"{name}, {how}"].append(given)
        self.note(f"{name}: probed")
        return found

    def learn(self, name: str, settings: Settings, fit: Fit) -> Runs:
        """Return the predictions of networks that learn all their weights, one per run."""
        found: list[Prediction | Rows] = []
        test = {"rgb": self.scenes.images[self.division.rows(2)]}
        for seed, rows in enumerate(self.train):
            given = {"rgb": self.scenes.images[rows]}, self.scenes.labels[rows]
            net = fit(*given, settings=replace(settings, seed=seed))
            found.append(predict(net, test, gsd_m=self.gsd_m))
        self.note(f"{name}: {settings.steps} steps of {settings.batch} pictures, each run")
        return {name: found}

    def frozen(self, encoder: Encoder) -> Runs:
        """Return the predictions of every probe on every kind of frozen features."""
        usual: dict[str, Probe] = {"linear": linear_probe, "neighbours": knn_probe}
        arrays, count = {"rgb": self.scenes.images}, len(self.division.rows(2))
        commonest = [majority(self.scenes.labels[rows], count) for rows in self.train]
        statistics = [band_statistics(self.scenes.images)]
        random = [
            embed_all(random_like(encoder, i), arrays, gsd_m=self.gsd_m)
            for i in range(len(self.train))
        ]
        return {
            "commonest class": list(commonest),
            **self.probe("statistics", statistics, {**usual, "trees": forest_probe}),
            **self.probe("random features", random, usual),
            **self.probe("encoder", [embed_all(encoder, arrays, gsd_m=self.gsd_m)], usual),
        }

    def learned(self, encoder: Encoder, network: Settings | None, tuning: Settings | None) -> Runs:
        """Return the predictions of networks from scratch and fine-tuned, where they are wanted."""
        classes = len(self.scenes.classes)
        found: Runs = {}
        if network is not None:
            scratch = partial(fit_network, classes=classes)
            found |= self.learn("network from scratch", network, scratch)
        if tuning is not None:
            tune = partial(fine_tune, classes=classes, gsd_m=self.gsd_m)

            def again(*given: Any, settings: Settings) -> nn.Module:
                return tune(random_like(encoder, settings.seed), *given, settings=settings)

            found |= self.learn("random encoder, fine-tuned", tuning, again)
            found |= self.learn("encoder, fine-tuned", tuning, partial(tune, encoder))
        return found

    def summary(self, given: Runs) -> dict[str, Any]:
        """Return what `run` returns of the predictions of every method."""
        scenes, division = self.scenes, self.division
        test = division.rows(2)
        truth, block = scenes.labels[test], division.block[test]
        methods: dict[str, Any] = {}
        hits = {}
        for name, runs in given.items():
            labels = [one.labels if isinstance(one, Prediction) else one for one in runs]
            methods[name], hits[name] = score(labels, truth, block)
            chosen = [one.chosen for one in runs if isinstance(one, Prediction)]
            methods[name]["chosen"] = chosen or None
        counts = {
            what: {
                "pictures": len(division.rows(part)),
                "blocks": len(np.unique(division.block[division.part == part])),
            }
            for part, what in enumerate(("train", "validation", "test"))
        }
        pairs = [(own, floor) for own in hits for floor in hits if _comparable(own, floor)]
        return {
            "classes": list(scenes.classes),
            "counts": counts,
            "methods": methods,
            "differences": [difference(hits, own, floor, block) for own, floor in pairs],
            "notes": [division.note] if division.note else [],
        }


def _comparable(own: str, floor: str) -> bool:
    """Return True for the encoder's own methods against floors read or learned alike."""
    if not own.startswith("encoder, ") or floor.startswith("encoder, "):
        return False
    how = own.removeprefix("encoder, ")
    tuned = {"fine-tuned": floor.endswith(("fine-tuned", "from scratch"))}
    return tuned.get(how, floor.endswith((how, "trees", "from scratch")))


def _rows(table: Path, names: Sequence[str]) -> list[dict[str, str]]:
    """Return the table's row of each name."""
    try:
        with Path(table).open(newline="", encoding="utf-8") as file:
            read = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError) as error:
        raise SourceUnavailableError(f"the table of places can't be read: {error}") from error
    key = next(iter(read[0])) if read else ""
    found = {row[key]: row for row in read}
    missing = [name for name in names if name not in found]
    if missing:
        raise BadSourceError(
            f"every picture needs a row in {table}; {len(missing)} of {len(names)} have none, the "
            f"first is {missing[0]!r}. Names are looked up in the first column, {key!r}"
        )
    return [found[name] for name in names]
