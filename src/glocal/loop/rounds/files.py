"""The files of one round, and those at the top of a run folder."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray

from glocal.core.chip import Image
from glocal.core.correction import Corrections
from glocal.core.legend import Crosswalk
from glocal.core.observation import Observations
from glocal.core.provenance import Provenance
from glocal.core.result import Displacement, relative_entropy
from glocal.errors import RunError
from glocal.io.atomic import replacing, write_json
from glocal.io.prov import prov_document
from glocal.io.raster import write_cog, write_qml
from glocal.io.stac import Asset, class_band, round_item
from glocal.io.vector import write_table
from glocal.loop.area import config as configuration
from glocal.loop.area.area import Area, clearest, file_digest
from glocal.loop.rounds.turns import Said, Turn, taught_provenance
from glocal.sources.kind import Reading

LAYERS = {
    "estimate": "most probable class of every cell",
    "probability": "probability of that class",
    "probabilities": "probability of every class, one band each, as value / 65535",
    "entropy": "entropy of the class, 0 (sure) to 1 (nothing known)",
    "disagreement": "how far the families of sources contradict each other, 0 to 1",
    "image": "quicklook of the first optical image",
}

COLOURS = ("red", "green", "blue")

PROBABILITY_SCALE = 65_535
"""Value of ``probabilities.tif`` that stands for certainty."""


def write_round(
    area: Area,
    turn: Turn,
    told: Mapping[str, Corrections],
    shifts: Mapping[str, Displacement],
    folder: Path,
    software: str,
) -> None:
    """Write one round; its ``item.json`` comes last, so it is there only when all else is."""
    provenance = replace(turn.estimate.provenance, software=software)
    _write_layers(area, turn, folder, provenance)
    _write_table(folder / "reliability.parquet", reliability_table(area, turn), turn)
    _write_table(folder / "displacement.parquet", shift_table(area, shifts), turn)
    write_corrections(folder / "corrections.parquet", area, turn, told)
    write_models(folder / "models.npz", turn.said)
    write_json(folder / "metrics.json", round_metrics(turn))
    name, version = software.split()
    previous = f"{area.config.name}-r{turn.round - 1}" if turn.round else ""
    write_json(
        folder / "prov.json",
        prov_document(
            {f"{area.config.name}-r{turn.round}": provenance},
            {**area.provenance(), **{one.source: one.provenance for one in turn.models}},
            activity=f"fuse-round-{turn.round}",
            software={name: version},
            previous=previous,
        ),
    )
    write_json(folder / "item.json", _item(area, turn, provenance, folder, {name: version}))


def write_corrections(path: Path, area: Area, turn: Turn, told: Mapping[str, Corrections]) -> None:
    """Write all corrections as one table."""
    _write_table(path, correction_table(area, told), turn)


def _write_table(path: Path, table: pd.DataFrame, turn: Turn) -> None:
    made_of = turn.estimate.provenance
    write_table(path, table, licence=made_of.licence, attribution=made_of.credit)


def round_metrics(turn: Turn) -> dict[str, Any]:
    """Return what a round says of itself."""
    exponents = turn.fused.fit.exponents
    return {
        "round": turn.round,
        "anchor_log_loss": turn.anchor_log_loss,
        "anchors": turn.fused.anchors,
        "change": turn.change,
        "exponents": exponents.g,
        "shared_with_relatives": exponents.delta,
        "exponents_learned": exponents.learned,
        "spatial_weight": turn.fused.beta,
        "units": len(turn.fused.fit.problem.units),
        "same_as": turn.fused.twins,
    }


def _write_layers(area: Area, turn: Turn, folder: Path, provenance: Provenance) -> None:
    estimate, p, legend = turn.estimate, turn.estimate.p, area.legend

    def write(name: str, layer: NDArray[Any], made_of: Provenance = provenance, **how: Any) -> None:
        credit = f"{made_of.credit}; licence {made_of.licence}"
        how = {"band_names": (name,), "categorical": False, "copyright": credit, **how}
        write_cog(folder / f"{name}.tif", layer, area.geobox, description=LAYERS[name], **how)

    codes = np.array(legend.values, np.uint8)[estimate.classes]
    look: dict[str, Any] = {"nodata": legend.nodata, "colors": legend, "categorical": True}
    write("estimate", codes, band_names=("class",), **look)
    write_qml(folder / "estimate.qml", legend)
    shares = {"probability": p.max(axis=-1), "disagreement": estimate.disagreement}
    shares["entropy"] = np.clip(relative_entropy(estimate.log_p), 0, 1)
    for name, share in shares.items():
        write(name, share.astype(np.float32), nodata=float("nan"))
    bands = np.rint(np.moveaxis(p, -1, 0) * PROBABILITY_SCALE).astype(np.uint16)
    write("probabilities", bands, band_names=legend.names)
    shown = clearest([one.image for one in area.readings if one.image is not None], *COLOURS)
    if shown is not None:
        write("image", quicklook(shown), shown.chip.provenance, band_names=COLOURS)


def quicklook(image: Image) -> NDArray[np.uint8]:
    """Return an image as 8-bit colour, shape (3, H, W), stretched 2-98 %."""
    bands = np.stack([image.chip.band(name) for name in COLOURS])
    low, high = np.nanpercentile(bands[:, image.clear], [2, 98], axis=1)
    scaled = (bands - low[:, None, None]) / np.maximum(high - low, 1e-6)[:, None, None]
    return np.asarray(np.nan_to_num(np.clip(scaled, 0, 1) * 255), np.uint8)


def reliability_table(area: Area, turn: Turn) -> pd.DataFrame:
    """Return every source's confusion as rows (source, context, class, symbol, ...)."""
    names = {o.source: o.crosswalk.symbols for o in (*area.observations, *turn.models)}
    rows = []
    for one in turn.fused.reliabilities():
        contexts, classes, symbols = one.confusion.shape
        grid = np.indices((contexts, classes, symbols)).reshape(3, -1)
        rows.append(
            pd.DataFrame(
                {
                    "source": one.source,
                    "context": grid[0],
                    "class": np.array(one.legend.names)[grid[1]],
                    "symbol": np.array(names[one.source])[grid[2]],
                    "probability": one.confusion.ravel(),
                    "count": one.counts.ravel(),
                    "exponent": one.exponent,
                    "family": " ".join(one.family),
                }
            )
        )
    return pd.concat(rows, ignore_index=True)


def correction_table(area: Area, told: Mapping[str, Corrections]) -> gpd.GeoDataFrame:
    """Return all corrections as one table in the grid's CRS."""
    parts = [one for one in told.values() if len(one)]
    text = {"kind": "fault", "fate": "fate"}
    fields = {one: one for one in ("record", "action", "current", "proposed", "probability")}
    columns: dict[str, Any] = {
        "source": np.array([one.source for one in parts for _ in range(len(one))], object),
        **{
            column: np.concatenate([getattr(one, name) for one in parts]) if parts else []
            for column, name in (fields | text).items()
        },
        "because": np.array([" ".join(o.because) for o in parts for _ in range(len(o))], object),
        "round": np.array([one.round for one in parts for _ in range(len(one))], np.int64),
    }
    geometry = np.concatenate([one.support for one in parts]) if parts else np.empty(0, object)
    return gpd.GeoDataFrame(columns, geometry=geometry, crs=str(area.geobox.crs))


def shift_table(area: Area, shifts: Mapping[str, Displacement]) -> gpd.GeoDataFrame:
    """Return the displacement of every layer, in metres, with covariance."""
    names = sorted(shifts)
    outline = shapely.box(*area.geobox.extent.boundingbox)
    return gpd.GeoDataFrame(
        {
            "source": names,
            "dy": [shifts[name].dy for name in names],
            "dx": [shifts[name].dx for name in names],
            "var_dy": [shifts[name].covariance[0][0] for name in names],
            "cov": [shifts[name].covariance[0][1] for name in names],
            "var_dx": [shifts[name].covariance[1][1] for name in names],
            "gauge": [shifts[name].gauge for name in names],
            "applied": [shifts[name].applied for name in names],
        },
        geometry=[outline] * len(names),
        crs=str(area.geobox.crs),
    )


def _item(
    area: Area, turn: Turn, provenance: Provenance, folder: Path, software: dict[str, str]
) -> dict[str, Any]:
    assets = {
        name: Asset(
            path=folder / f"{name}.tif",
            title=title,
            roles=("data",) if name != "image" else ("overview",),
            bands=(class_band("class", area.legend),) if name == "estimate" else (),
            geobox=area.geobox,
        )
        for name, title in LAYERS.items()
        if (folder / f"{name}.tif").exists()
    }
    previous = f"../{turn.round - 1:03d}/item.json" if turn.round else ""
    # inputs are named by their content (RFC 6920): paths are nobody's business
    paths = configuration.told_files(area.config)
    inputs = [f"ni:///sha-256;{_digest(path, path.stat().st_mtime_ns)}" for path in paths]
    for name in ("reliability", "corrections", "displacement"):
        assets[name] = Asset(path=folder / f"{name}.parquet", title=name, roles=("metadata",))
    return round_item(
        area=area.config.name,
        round=turn.round,
        geobox=area.geobox,
        interval=area.config.interval,
        legend=area.legend,
        provenance=provenance,
        assets=assets,
        folder=folder,
        licence=provenance.licence,
        software=software,
        derived_from=[*inputs, previous] if previous else inputs,
        previous=previous,
        prov="prov.json",
    )


@cache
def _digest(path: Path, changed: int) -> str:
    """Return the SHA-256 of an input in base64url; it is read once per process."""
    content = bytes.fromhex(file_digest(path))
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def write_models(path: Path, said: Said) -> None:
    """Keep what learners said, so that a run can go on from here."""
    arrays: dict[str, NDArray[Any]] = {}
    for judged, released in zip(said.judged, said.released, strict=True):
        walk = judged.crosswalk
        held: dict[str, Any] = {"names": np.array(walk.symbols)}
        held |= {"matrix": walk.matrix, "confidence": walk.confidence}
        held |= {"symbols": judged.symbols, "shares": judged.shares}
        held |= {"released_symbols": released.symbols, "released_shares": released.shares}
        arrays |= {f"{judged.source}:{name}": array for name, array in held.items()}
    with replacing(path) as part:
        np.savez_compressed(part, **arrays)  # type: ignore[arg-type]


def read_models(path: Path, area: Area) -> Said:
    """Return what learners said in a finished round.

    Raises
    ------
    RunError
        The file is missing or damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            judged = tuple(_restored(stored, one, area) for one in area.learners)
            released = tuple(
                replace(
                    one,
                    symbols=stored[f"{one.source}:released_symbols"],
                    shares=stored[f"{one.source}:released_shares"],
                )
                for one in judged
            )
            return Said(judged=judged, released=released)
    except (OSError, KeyError, ValueError) as error:
        raise RunError(
            f"{path} of a finished round can't be read ({error}); delete that round's folder "
            "and run again"
        ) from error


def _restored(stored: Any, learner: Reading, area: Area) -> Observations:
    name = learner.name
    if learner.time is None:
        raise ValueError(f"{name} does not say when it sees the ground")
    names = ("symbols", "names", "matrix", "confidence", "shares")
    symbols, words, matrix, sure, shares = (stored[f"{name}:{one}"] for one in names)
    return Observations(
        source=name,
        support="cells",
        geobox=area.geobox,
        symbols=symbols,
        crosswalk=Crosswalk(
            symbols=tuple(words.tolist()), target=area.legend, matrix=matrix, confidence=sure
        ),
        phenomenon_time=learner.time,
        provenance=taught_provenance(area, learner),
        shares=shares,
    )
