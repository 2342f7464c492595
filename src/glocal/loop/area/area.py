"""Read an area once: images, statements of every source, reference points."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import reduce
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from glocal.core.chip import Chip
from glocal.core.grid import block_folds, cells_of_points
from glocal.core.interval import Interval
from glocal.core.legend import Legend
from glocal.core.observation import Anchors, Observations
from glocal.core.provenance import Provenance, osm_accepts
from glocal.fusion.decode.spatial import Similarity
from glocal.loop.area import schema
from glocal.loop.area.config import target_legend
from glocal.loop.area.reviews import declared_rates, hear, read_reviews, with_visits
from glocal.loop.area.schema import AreaConfig
from glocal.sources.field.observe import observe_insitu, read_anchors
from glocal.sources.images.clouds import clear_cells, require_clear
from glocal.sources.images.read import read_image, read_scl
from glocal.sources.maps.observe import observe_landcover
from glocal.sources.models.predict import FeatureKind, Features, features, weights_behind
from glocal.sources.osm.read import observe_osm
from glocal.sources.people.rates import with_rates
from glocal.sources.people.store import Stored
from glocal.sources.rules.thresholds import observe_rules

__all__ = ["Area", "Image", "Progress", "read_area"]

Progress = Callable[[str, float], None]
"""Called with what is being done and the share done, 0..1."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Image:
    """One image on the grid, and which of its cells show the ground."""

    chip: Chip
    clear: NDArray[np.bool_]
    kind: NDArray[np.uint8]
    """0 clear, 1 cloud, 2 shadow, 3 no data."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Area:
    """Everything that a round needs, read and checked."""

    config: AreaConfig
    legend: Legend
    geobox: GeoBox
    images: dict[str, Image]
    observations: tuple[Observations, ...]
    """Of every source except images and models."""

    anchors: Anchors | None
    reference: Anchors | None
    """All points of the probability sample, those that serve as a source included."""

    seen: dict[str, Features]
    """Features per model."""

    similarity: Similarity | None
    fold: NDArray[np.uint8]
    """Fold of every cell, for out-of-fold predictions, shape (H, W)."""

    reviews: dict[str, Stored] = field(default_factory=dict)
    """Answers to earlier runs, by the name of their source."""

    own_anchors: Anchors | None = None
    """The anchors without visits that came back; the same where there are none."""

    def without(self, records: NDArray[np.str_]) -> Area:
        """Return the area as if these reference points did not exist."""
        anchors, own = (
            one and one.take(~np.isin(one.record, records))
            for one in (self.anchors, self.own_anchors)
        )
        kept = tuple(
            drop_records(one, records) if self.is_reference(one) else one
            for one in self.observations
        )
        taught = with_rates(kept, anchors, declared_rates(self.config))
        return replace(self, anchors=anchors, own_anchors=own, observations=taught)

    def is_reference(self, source: Observations) -> bool:
        """Return True when a field source is the other half of the anchors' own sample."""
        ours = self.config.anchors
        theirs = self.config.source(source.source)
        return (
            ours is not None
            and isinstance(theirs, schema.InsituSource)
            and theirs.path.resolve() == ours.path.resolve()
        )

    def only_for_osm(self) -> Area:
        """Return the area with only those sources whose licence OSM can accept."""
        kept = tuple(o for o in self.observations if osm_accepts(o.provenance.licences))
        samples = (self.anchors, self.own_anchors)
        anchors = next((a for a in samples if a and osm_accepts(a.provenance.licences)), None)
        seen = {
            name: one
            for name, one in self.seen.items()
            if osm_accepts(self.licences_of_model(name))
        }
        taught = with_rates(kept, anchors, declared_rates(self.config))
        return replace(self, observations=taught, anchors=anchors, seen=seen)

    @property
    def has_osm(self) -> bool:
        """True when a source is OpenStreetMap, which then receives corrections."""
        return any(one.kind == "osm" for one in self.config.sources)

    @property
    def all_for_osm(self) -> bool:
        """True when OSM can accept the licence of every source and of the anchors."""
        small = self.only_for_osm()
        return (
            len(small.observations) == len(self.observations)
            and len(small.seen) == len(self.seen)
            and len(small.anchors or ()) == len(self.anchors or ())
        )

    def _model(self, name: str) -> schema.PredictedSource:
        source = self.config.source(name)
        if not isinstance(source, schema.PredictedSource):
            raise ValueError(f"{name} is a {source.kind}, not a model")
        return source

    def images_of(self, model: str) -> tuple[Image, ...]:
        """Return the images that a model reads."""
        return tuple(self.images[name] for name in self._model(model).of)

    def behind_model(self, model: str) -> tuple[Provenance, ...]:
        """Return where a model's features come from: its images, and weights if it has any."""
        images = (image.chip.provenance for image in self.images_of(model))
        return (*images, *weights_behind(self._model(model).features))

    def interval_of_model(self, model: str) -> Interval:
        """Return the time from the first to the last image that a model reads."""
        first, *rest = (image.chip.interval for image in self.images_of(model))
        return reduce(Interval.union, rest, first)

    def licences_of_model(self, model: str) -> frozenset[str]:
        """Return the licences of what a model's features come from."""
        return frozenset().union(*(one.licences for one in self.behind_model(model)))


def drop_records(source: Observations, records: NDArray[np.str_]) -> Observations:
    """Return ``source`` without the statements named in ``records``."""
    keep = ~np.isin(source.record, records)
    return take_records(source, keep)


def take_records(source: Observations, keep: NDArray[np.bool_]) -> Observations:
    """Return the statements of ``source`` selected by ``keep`` (n,)."""
    return replace(
        source,
        symbols=source.symbols[keep],
        geometry=source.geometry[keep],
        record=source.record[keep],
        position_sd_m=source.position_sd_m[keep]
        if len(source.position_sd_m)
        else source.position_sd_m,
        stratum=None if source.stratum is None else source.stratum[keep],
        columns={name: values[keep] for name, values in source.columns.items()},
    )


def read_area(config: AreaConfig, progress: Progress) -> Area:
    """Read every source of ``config`` onto its grid.

    Raises
    ------
    GlocalError
        The first source that can't be used, by name, with what to do.
    """
    geobox, legend = config.grid.geobox, target_legend(config)
    images: dict[str, Image] = {}
    for i, source in enumerate(config.sources):
        progress(f"reading {source.name}", i / len(config.sources))
        if isinstance(source, schema.ImagerySource):
            images[source.name] = _image(source, geobox)
    observations = [
        _observe(source, config, geobox, legend, images)
        for source in config.sources
        if not isinstance(
            source, schema.ImagerySource | schema.PredictedSource | schema.ReviewSource
        )
    ]
    reviews = read_reviews(config)
    anchors = _anchors(config, geobox, legend)
    own = _half_of(anchors, config) if anchors is not None else None
    known = with_visits(own, reviews, legend)
    heard = hear(observations, reviews, config, geobox, legend)
    progress("reading", 1.0)
    return Area(
        config=config,
        legend=legend,
        geobox=geobox,
        images=images,
        observations=with_rates(heard, known, declared_rates(config)),
        anchors=known,
        own_anchors=own,
        reference=with_visits(_reference(config, anchors), reviews, legend),
        reviews=reviews,
        seen={
            one.name: _features([images[name] for name in one.of], one.features)
            for one in config.sources
            if isinstance(one, schema.PredictedSource)
        },
        similarity=_similarity(images),
        fold=block_folds(geobox, config.block, config.folds, seed=config.seed),
    )


def _when(date: str | None, config: AreaConfig) -> Interval:
    return Interval.parse(date) if date else config.interval


def _image(source: schema.ImagerySource, geobox: GeoBox) -> Image:
    chip = read_image(
        source.path,
        source.kind,
        geobox,
        interval=Interval.parse(source.date) if source.date else None,
        unit=source.unit,
        offset=source.offset,
        crs=source.crs,
        bands=source.bands,
        source=source.name,
        licence=source.licence,
    )
    if source.attribution:
        credited = replace(chip.provenance, attribution=(source.attribution,))
        chip = replace(chip, provenance=credited)
    scl = read_scl(source.path, geobox, crs=source.crs) if source.kind == "sentinel2" else None
    clear, kind = clear_cells(chip, scl)
    require_clear(source.name, kind)
    return Image(chip=chip, clear=clear, kind=kind)


def _observe(
    source: schema.SourceConfig,
    config: AreaConfig,
    geobox: GeoBox,
    legend: Legend,
    images: dict[str, Image],
) -> Observations:
    if isinstance(source, schema.RulesSource):
        image = images[source.of]
        return observe_rules(image.chip, image.clear, geobox, legend, source=source.name)
    if isinstance(source, schema.OsmSource):
        seen = observe_osm(
            source.path,
            geobox,
            legend,
            source=source.name,
            interval=_when(source.date, config),
            salt=source.salt_file.read_bytes() if source.salt_file else None,
            licence=source.licence,
        )
    elif isinstance(source, schema.InsituSource):
        seen = observe_insitu(
            source.path,
            geobox,
            legend,
            source=source.name,
            columns={str(k): v for k, v in source.columns.items()},
            crs=source.crs,
            interval=_when(source.date, config),
            position_sd_m=source.position_sd_m,
            class_names=dict(source.classes),
            licence=source.licence,
        )
        if source.part:
            seen = take_records(seen, in_part(seen.record, source.part, config.seed))
    elif isinstance(source, schema.LandcoverSource):
        seen = observe_landcover(
            source.path,
            geobox,
            legend,
            source=source.name,
            legend_name=source.legend or "",
            interval=_when(source.date, config),
            crs=source.crs,
            licence=source.licence,
            legend_csv=source.legend_csv,
        )
    else:
        raise TypeError(f"{source.name}: a {source.kind} source makes no statements")
    return _credited(seen, source.attribution)


def _credited(seen: Observations, attribution: str | None) -> Observations:
    if not attribution:
        return seen
    return replace(seen, provenance=replace(seen.provenance, attribution=(attribution,)))


def in_part(record: NDArray[np.str_], part: str, seed: int) -> NDArray[np.bool_]:
    """Return which records fall into the ``first`` or ``second`` seeded random half.

    A record's half depends on its id and the seed only, so that two readers of one
    table always agree.
    """
    side = np.array(
        [hashlib.sha256(f"{seed}:{name}".encode()).digest()[0] & 1 for name in record], bool
    )
    return ~side if part == "first" else side


def _anchors(config: AreaConfig, geobox: GeoBox, legend: Legend) -> Anchors | None:
    """Return all points of the anchors' table, whatever part of it serves as anchors."""
    if config.anchors is None:
        return None
    return read_anchors(
        config.anchors.path,
        geobox,
        legend,
        columns={str(k): v for k, v in config.anchors.columns.items()},
        crs=config.anchors.crs,
        weight_column=config.anchors.columns.get("weight"),
        class_names=dict(config.anchors.classes),
        licence=config.anchors.licence,
        attribution=config.anchors.attribution or "",
    )


def _half_of(anchors: Anchors, config: AreaConfig) -> Anchors:
    part = config.anchors.part if config.anchors else None
    return anchors.take(in_part(anchors.record, part, config.seed)) if part else anchors


def _reference(config: AreaConfig, anchors: Anchors | None) -> Anchors | None:
    """Return the anchors, and the rest of their sample where that serves as a source."""
    if anchors is None or config.anchors is None:
        return None
    shared = any(
        isinstance(one, schema.InsituSource) and one.path.resolve() == config.anchors.path.resolve()
        for one in config.sources
    )
    return anchors if shared else _half_of(anchors, config)


def _features(images: list[Image], kind: FeatureKind) -> Features:
    clear = np.logical_and.reduce([image.clear for image in images])
    return features([image.chip for image in images], clear, kind)


def _similarity(images: dict[str, Image]) -> Similarity | None:
    """Return how alike neighbours look in the first optical image.

    From its visible and infrared bands: exp(-d2 / (2 mean d2)), with 1 where the image
    is not clear.
    """
    optical = [one for one in images.values() if one.chip.has("red")]
    if not optical:
        return None
    image = optical[0]
    names = [name for name in ("green", "red", "nir", "swir16") if image.chip.has(name)]
    layers = np.stack([np.log(np.maximum(image.chip.band(name), 1e-3)) for name in names])
    layers = layers / np.maximum(np.nanstd(layers, axis=(1, 2), keepdims=True), 1e-6)

    def tie(step: NDArray[np.float32]) -> NDArray[np.float32]:
        square = (step**2).sum(axis=0)
        usual = max(float(np.nanmean(square)), 1e-9)
        alike = np.nan_to_num(np.exp(-square / (2 * usual)), nan=1.0)
        return np.asarray(alike, np.float32)

    return tie(np.diff(layers, axis=2)), tie(np.diff(layers, axis=1))


def cells_of(points: Anchors, geobox: GeoBox) -> NDArray[np.int64]:
    """Return the flat cell of every point, -1 outside."""
    return cells_of_points(geobox, points.x, points.y)


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


def provenance_of(area: Area) -> dict[str, Provenance]:
    """Return the provenance of every source that was read."""
    out = {name: image.chip.provenance for name, image in area.images.items()}
    out.update({one.source: one.provenance for one in area.observations})
    if area.anchors is not None:
        out["anchors"] = area.anchors.provenance
    return out
