"""What goes back to imagery people: shift, clouds, and the image without gaps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from glocal.core.placement import Registration
from glocal.core.provenance import Provenance
from glocal.fusion.place.scene_shift import register
from glocal.io.raster import info
from glocal.io.stac import multihash
from glocal.loop.area.area import Area, Image
from glocal.loop.area.schema import ImagerySource, SourceConfig
from glocal.loop.rounds.proposals import Gift, attribution_of, licence_of
from glocal.loop.rounds.turns import Turn
from glocal.sources.images.fill import Filling, fill_gaps
from glocal.sources.images.registration import SceneFile
from glocal.sources.images.write import encode_image

__all__ = ["to_image"]

ALONE = "no source without a root in common with the image"

SINGLE = (".tif", ".tiff", ".jp2")


def to_image(area: Area, turn: Turn, name: str, room: Path) -> Gift:
    """Write what is known of one image: its shift, its clouds, what they hid."""
    image = area.images[name]
    everybody = [*area.observations, *turn.models]
    kin = {one.source for one in everybody if one.provenance.shares_root(image.chip.provenance)}
    strangers = [one for one in everybody if one.source not in kin]
    registration: Registration | None = None
    filling: Filling | str = ALONE
    if strangers:
        others = np.exp(turn.fused.cells(frozenset(kin)))
        registration = _registered(area, image, others, [one.source for one in strangers])
        filling = _filled(area, name, others)
    own = image.chip.provenance
    evidence = [own, *(one.provenance for one in strangers)]
    provenance = Provenance.derive("fill", evidence) if strangers else own
    files = encode_image(
        room,
        registration=registration,
        cloud_kind=image.kind,
        geobox=area.geobox,
        interval=image.chip.interval,
        scene=", ".join(sorted(own.roots)),
        file=_single(area.config.source(name)),
        filling=filling,
        bands=image.chip.bands,
        why_no_registration="no peak: the others' classes do not show in this image"
        if strangers
        else ALONE,
        licence=licence_of(provenance.licences),
        attribution=attribution_of(provenance),
    )
    count = {"cloud_cells": int(_hidden(image).sum())}
    if isinstance(filling, Filling):
        count["filled_cells"] = int(np.isin(filling.basis, (1, 2, 3)).sum())
    return Gift(files=tuple(files), count=count)


def _hidden(image: Image) -> NDArray[np.bool_]:
    return np.isin(image.kind, (1, 2))


def _layers(image: Image) -> NDArray[np.float32]:
    """Return the bands, shape (B, H, W), NaN where the image does not show the ground."""
    seen = image.clear & image.chip.valid.all(axis=0)
    return np.where(seen, image.chip.values, np.float32(np.nan))


def _registered(
    area: Area, image: Image, others: NDArray[np.float32], names: list[str]
) -> Registration | None:
    layers = _layers(image)
    clear = np.asarray(np.isfinite(layers).all(axis=0))
    step = abs(float(area.geobox.resolution.x))
    found = register(np.nan_to_num(layers), clear, others, step, seed=area.config.seed)
    if found is None:
        return None
    gauge = f"relative to {', '.join(sorted(names))}"
    return replace(found, shift=replace(found.shift, gauge=gauge))


def _filled(area: Area, name: str, others: NDArray[np.float32]) -> Filling | str:
    image = area.images[name]
    sensor = area.config.source(name).kind
    rest = [
        (_layers(one), area.config.source(other).kind == sensor)
        for other, one in sorted(area.images.items())
        if other != name
    ]
    return fill_gaps(
        image.chip.values,
        np.asarray(np.isfinite(_layers(image)).all(axis=0)),
        _hidden(image),
        rest,
        others,
        area.fold,
        seed=area.config.seed,
    )


def _single(source: SourceConfig) -> SceneFile | None:
    """Return the scene's raster where it is a single file with a grid."""
    if not isinstance(source, ImagerySource) or not source.path.is_file():
        return None
    path = source.path
    if path.suffix.lower() not in SINGLE:
        return None
    content = path.read_bytes()
    grid = info(path, source.crs).grid
    return SceneFile(name=path.name, grid=grid, size=len(content), checksum=multihash(content))
