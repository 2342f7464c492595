"""Read an area once: every source through its kind, and the reference points."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import shapely
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from glocal.core.answer import Answered
from glocal.core.chip import Image
from glocal.core.grid import block_folds, block_side, cells_of_points
from glocal.core.labels import Labels
from glocal.core.legend import Legend
from glocal.core.observation import Anchors, Observations, joined
from glocal.core.provenance import Provenance, Terms
from glocal.core.typing import Bytes, Codes, Layers, Table
from glocal.fusion.decode.spatial import Similarity
from glocal.loop.area.config import target_legend
from glocal.loop.area.schema import AreaConfig
from glocal.sources.answers.settled import too_hard_places
from glocal.sources.kind import Reading, Window
from glocal.sources.kinds import kind_called
from glocal.sources.points.read import in_part, read_anchors

Progress = Callable[[str, float], None]
"""Called with what is being done and the share done, 0..1."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Area:
    """Everything that a round needs, read and checked."""

    config: AreaConfig
    window: Window
    readings: tuple[Reading, ...]
    """One per source, in the order of the configuration."""

    anchors: Anchors | None
    """Reference points that may teach, visits that came back included."""

    own_anchors: Anchors | None
    """The same without visits."""

    reference: Anchors | None
    """All points of the probability sample, those that serve as a source included."""

    answers: tuple[Answered, ...]
    """What people answered to earlier runs: even who can't use it as evidence asks no more."""

    similarity: Similarity | None
    """How alike neighbours look in the clearest picture."""

    @property
    def legend(self) -> Legend:
        """The classes to estimate."""
        return self.window.legend

    @property
    def geobox(self) -> GeoBox:
        """The grid on which sources meet."""
        return self.window.geobox

    @property
    def observations(self) -> tuple[Observations, ...]:
        """What all sources say that do not learn in the loop."""
        said = (one.statements for one in self.readings if one.features is None)
        return tuple(one for one in said if one is not None)

    @property
    def learners(self) -> tuple[Reading, ...]:
        """Sources that learn in the loop, by name."""
        seen = (one for one in self.readings if one.features is not None)
        return tuple(sorted(seen, key=lambda one: one.name))

    @property
    def too_hard(self) -> NDArray[np.int32]:
        """Which cells (H, W) belong to which place that nobody could judge, 0 for none."""
        return too_hard_places(self.answers, self.reference, self.geobox)

    def saying(self, observations: Sequence[Observations]) -> Area:
        """Return the area with other statements of these sources."""
        said = {one.source: one for one in observations}
        readings = tuple(
            replace(one, statements=said.get(one.name, one.statements)) for one in self.readings
        )
        return replace(self, readings=readings)

    def without(self, records: NDArray[np.str_]) -> Area:
        """Return the area as if these reference points did not exist."""
        anchors, own = (
            one and one.take(~np.isin(one.record, records))
            for one in (self.anchors, self.own_anchors)
        )
        kept = tuple(
            replace(one, statements=one.says.take(~np.isin(one.says.record, records)))
            if one.of_anchors
            else one
            for one in self.readings
        )
        return replace(self, anchors=anchors, own_anchors=own, readings=_calibrated(kept, anchors))

    def under(self, terms: Terms) -> Area:
        """Return the area with only what the holder of these terms can accept as evidence.

        Images stay, for they say nothing by themselves, and so do those who hold the terms.
        """
        kept = tuple(
            one
            for one in self.readings
            if one.image is not None
            or one.kind.terms == terms
            or terms.accept(one.provenance.licences)
        )
        samples = (self.anchors, self.own_anchors)
        anchors = next((a for a in samples if a and terms.accept(a.provenance.licences)), None)
        return replace(self, anchors=anchors, readings=_calibrated(kept, anchors))

    def is_whole_under(self, terms: Terms | None) -> bool:
        """Return True when every source and the anchors may be used under these terms."""
        if terms is None:
            return True
        small = self.under(terms)
        same = len(small.readings) == len(self.readings)
        return same and len(small.anchors or ()) == len(self.anchors or ())

    def provenance(self) -> dict[str, Provenance]:
        """Return where everything that says or shows something comes from, by name."""
        out = {one.name: one.provenance for one in self.readings if one.features is None}
        if self.anchors is not None:
            out["anchors"] = self.anchors.provenance
        return out

    def owners(self) -> Codes:
        """Return the number of the object that each cell belongs to, shape (cells,), 0: none."""
        out = np.zeros(int(np.prod(self.geobox.shape)), np.int64)
        top = 0
        for one in self.observations:
            if one.support == "objects":
                owner = one.owner_of_cells().ravel()
                out = np.where(owner > 0, owner + top, out)
                top += len(one)
        return out

    def points(self) -> Labels:
        """Return every reference and field point as one label each."""
        anchors = (one for one in (self.anchors,) if one is not None)
        told = [(one.x, one.y, one.answered, one.shares) for one in anchors]
        for one in self.observations:
            if one.support == "points":
                symbol = np.maximum(one.symbols.astype(np.int64) - 1, 0)
                use = (one.symbols > 0) & (one.crosswalk.confidence[symbol] > 0)
                x, y = shapely.get_coordinates(one.geometry).T
                told.append((x, y, use, one.crosswalk.matrix[symbol]))
        cells, shares = [np.empty(0, np.int64)], [np.empty((0, len(self.legend)))]
        for x, y, use, meant in told:
            at = cells_of_points(self.geobox, x, y)
            cells.append(at[use & (at >= 0)])
            shares.append(meant[use & (at >= 0)])
        cell = np.concatenate(cells)
        return Labels(
            cell=cell,
            shares=np.concatenate(shares),
            weight=np.ones(len(cell)),
            bars=np.zeros(len(cell), np.int64),
            owner=self.owners(),
        )

    @property
    def teachers(self) -> list[Observations]:
        """What people train classifiers on as it is.

        Coarse maps only where there is nothing finer: one word for 5 km is no pixel label.
        """
        known = [one.says for one in self.readings if one.kind.teaches]
        return [one for one in known if one.support != "mixtures"] or known

    def words(self) -> tuple[Codes, Table, Table]:
        """Return cells, shares (n, K) and number of words (n,) of all that `teachers` say.

        Per cell, so that nothing depends on the order of sources or classes.
        """
        said = [one.class_of_cells().ravel() for one in self.teachers]
        at = [np.flatnonzero(one >= 0) for one in said]
        empty = np.empty(0, np.int64)
        word = np.concatenate([empty, *at])
        classes = np.concatenate([empty, *(one[i] for one, i in zip(said, at, strict=True))])
        cell, of_word, words = np.unique(word, return_inverse=True, return_counts=True)
        heard = np.zeros((len(cell), len(self.legend)))
        np.add.at(heard, (of_word, classes), 1.0)
        return cell, heard / np.maximum(words, 1)[:, None], words.astype(np.float64)


def read_area(config: AreaConfig, progress: Progress) -> Area:
    """Read every source of ``config`` onto its grid.

    Raises
    ------
    GlocalError
        The first source that can't be used, by name, with what to do.
    """
    geobox, legend = config.grid.geobox, target_legend(config)
    sample, own = _anchors(config, geobox, legend)
    block, fold = _dealt(config, own)
    window = Window(
        geobox=geobox,
        legend=legend,
        interval=config.interval,
        seed=config.seed,
        precision=config.precision,
        block=block,
        fold=fold,
        sample=config.anchors.path if config.anchors else None,
    )
    read: dict[str, Reading] = {}
    for i, source in enumerate(sorted(config.sources, key=lambda one: one.stage)):
        progress(f"reading {source.name}", i / len(config.sources))
        earlier = tuple(read.values())
        read[source.name] = kind_called(source.kind).read(source, replace(window, earlier=earlier))
    answers = [one.answers for one in read.values() if one.answers is not None]
    readings = [read[one.name] for one in config.sources]
    whole = replace(window, earlier=tuple(readings))
    readings = [one.kind.unheard(replace(one, window=whole), answers) for one in readings]
    shared = any(one.of_anchors for one in readings)
    visits = [one.visited for one in readings if one.visited is not None]
    anchors = _with(visits, own)
    progress("reading", 1.0)
    return Area(
        config=config,
        window=whole,
        readings=_calibrated(readings, anchors),
        anchors=anchors,
        own_anchors=own,
        reference=_with(visits, sample if shared else own),
        answers=tuple(answers),
        similarity=_similarity([one.image for one in readings if one.image is not None]),
    )


def _dealt(config: AreaConfig, anchors: Anchors | None) -> tuple[int, Bytes]:
    """Return the side of a block, and the fold of every cell (H, W), for these anchors."""
    geobox, at = config.grid.geobox, np.empty(0, np.int64)
    if anchors is not None:
        at = cells_of_points(geobox, anchors.x, anchors.y)[anchors.answered]
    at = at[at >= 0]
    block = block_side(geobox.shape, config.block, config.folds, at)
    return block, block_folds(geobox, block, config.folds, seed=config.seed, cells=at)


def _calibrated(readings: Sequence[Reading], anchors: Anchors | None) -> tuple[Reading, ...]:
    return tuple(one.kind.calibrated(one, readings, anchors) for one in readings)


def _anchors(
    config: AreaConfig, geobox: GeoBox, legend: Legend
) -> tuple[Anchors | None, Anchors | None]:
    """Return all points of the anchors' table, and the part of it that serves as anchors."""
    given = config.anchors
    if given is None:
        return None, None
    every = read_anchors(
        given.path,
        geobox,
        legend,
        columns={str(k): v for k, v in given.columns.items()},
        crs=given.crs,
        weight_column=given.columns.get("weight"),
        class_names=dict(given.classes),
        licence=given.licence,
        attribution=given.attribution or "",
    )
    part = given.part
    return every, every.take(in_part(every.record, part, config.seed)) if part else every


def _with(visits: Sequence[Anchors], anchors: Anchors | None) -> Anchors | None:
    """Return the anchors together with the places of sampling plans that came back."""
    if not visits:
        return anchors
    return joined([one for one in (anchors, *visits) if one is not None])


def clearest(images: Sequence[Image], *bands: str) -> Image | None:
    """Return the image with these bands that shows most cells; of equals, the first by date."""
    optical = [one for one in images if one.chip.has(*bands)]
    rank = [(int(one.clear.sum()), -one.chip.interval.start.timestamp()) for one in optical]
    return optical[rank.index(max(rank))] if optical else None


def _similarity(images: Sequence[Image]) -> Similarity | None:
    """Return how alike neighbours look in the clearest optical image.

    From its visible and infrared bands: exp(-d2 / (2 mean d2)), with 1 where the image
    is not clear.
    """
    image = clearest(images, "red")
    if image is None:
        return None
    names = [name for name in ("green", "red", "nir", "swir16") if image.chip.has(name)]
    layers = np.stack([np.log(np.maximum(image.chip.band(name), 1e-3)) for name in names])
    layers = layers / np.maximum(np.nanstd(layers, axis=(1, 2), keepdims=True), 1e-6)

    def tie(step: Layers) -> Layers:
        square = (step**2).sum(axis=0)
        usual = max(float(np.nanmean(square)), 1e-9)
        alike = np.nan_to_num(np.exp(-square / (2 * usual)), nan=1.0)
        return np.asarray(alike, np.float32)

    return tie(np.diff(layers, axis=2)), tie(np.diff(layers, axis=1))


def file_digest(path: Path) -> str:
    """Return the sha-256 of a file, or of all files of a folder, names included."""
    digest = hashlib.sha256()
    files = sorted(one for one in path.rglob("*") if one.is_file()) if path.is_dir() else [path]
    for file in files:
        if path.is_dir():
            digest.update(file.relative_to(path).as_posix().encode())
        with file.open("rb") as handle:
            while block := handle.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
