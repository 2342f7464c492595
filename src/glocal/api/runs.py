"""The loop on files, from Python: ``glocal.run``, ``glocal.open``, ``glocal.simulate``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import rasterio
import xarray as xr
from matplotlib.figure import Figure

from glocal.api.pictures import class_maps, picture_tag
from glocal.core.legend import ClassDef, Legend
from glocal.io.labelled import labelled
from glocal.io.raster import native_grid
from glocal.loop.answers import with_answers
from glocal.loop.area.config import load, validate, with_options
from glocal.loop.area.schema import AreaConfig
from glocal.loop.rounds.files import PROBABILITY_SCALE
from glocal.loop.run import run_area
from glocal.loop.score.metrics import Metrics, read_metrics
from glocal.synthetic import Earth, world_named, write_scene
from glocal.synthetic import simulate as draw

MEASURES = ("probability", "entropy", "disagreement")


def run(
    config: str | Path | Mapping[str, Any] | AreaConfig,
    out: str | Path,
    *,
    answers: Iterable[str | Path] = (),
    rounds: int | None = None,
    seed: int | None = None,
    precision: float | None = None,
    progress: Any = None,
) -> Run:
    """Run the loop on an area into a folder, as ``glocal run`` does; what is finished is kept.

    Parameters
    ----------
    config
        Path of an ``area.yaml``, or its content: relative paths then start at the working folder.
    out
        Folder of the results; an unfinished run resumes, a finished one returns at once.
    answers
        Folders of ``glocal answers``.
    rounds, seed, precision
        Instead of those of the configuration.
    progress
        Called with what is done (a text) and the share of the whole that is finished.

    Raises
    ------
    GlocalError
        The configuration breaks a rule, a source can't be used, or ``out`` holds another run.
    """
    if isinstance(config, Mapping):
        config = validate(config, folder=Path.cwd(), label="the configuration")
    elif not isinstance(config, AreaConfig):
        config = load(Path(config))
    config = with_options(config, rounds=rounds, seed=seed, precision=precision)
    config = with_answers(config, [Path(one) for one in answers])
    run_area(config, Path(out), progress=progress or (lambda what, share: None))
    return open(out)


def open(folder: str | Path) -> Run:
    """Return a finished run.

    Raises
    ------
    RunError
        The folder holds no finished run.
    """
    return Run(folder=Path(folder), metrics=read_metrics(Path(folder)))


def simulate(
    out: str | Path | None = None,
    *,
    world: str = "standard",
    size: int | None = None,
    seed: int = 0,
) -> Earth:
    """Draw a made-up area: maps, OpenStreetMap and points, each with its errors, and the truth.

    Parameters
    ----------
    out
        New folder for the files of all sources, images included, and ``area.yaml`` for `run`;
        None: nothing is written.
    world
        One of ``glocal.synthetic.WORLDS``: how the sources err.
    size
        Side of the area in cells of 10 m.
    seed
        Of every random draw.

    Examples
    --------
    >>> earth = simulate(size=96)
    >>> sorted(earth.sources)
    ['citizen', 'dynamicworld', 'esri', 'field', 'osm', 'worldcover']
    """
    scene = draw(world_named(world, size), seed)
    if out is not None:
        write_scene(scene, Path(out))
    return Earth(scene=scene)


@dataclass(frozen=True, kw_only=True, eq=False)
class Run:
    """A finished run in its folder: layers, corrections, numbers."""

    folder: Path
    metrics: Metrics
    """All numbers of ``metrics.json``, typed."""

    @property
    def report(self) -> Path:
        """The page for people."""
        return self.folder / "report.html"

    @cached_property
    def legend(self) -> Legend:
        """The classes."""
        rows = self.metrics.legend or []
        return Legend(
            name=self.metrics.area,
            classes=tuple(
                ClassDef(
                    value=one.value,
                    name=one.name,
                    title=one.title,
                    color=one.color,
                    concept=one.concept,
                )
                for one in rows
            ),
        )

    @cached_property
    def layers(self) -> xr.Dataset:
        """The maps of the run, with coordinates and CRS.

        ``estimate`` (codes of the legend), its ``probability``, ``entropy``, ``disagreement``, and
        ``probabilities`` (class, y, x).
        """
        found = {name: self._layer(name) for name in ("estimate", *MEASURES)}
        # CF: what the codes mean, for whoever opens the array elsewhere
        codes, names = list(self.legend.values), " ".join(self.legend.names)
        found["estimate"].attrs |= {"flag_values": codes, "flag_meanings": names}
        shares = self._layer("probabilities", self.legend.names)
        found["probabilities"] = (shares / np.float32(PROBABILITY_SCALE)).astype(np.float32)
        return xr.Dataset(found)

    def _layer(self, name: str, classes: tuple[str, ...] | None = None) -> xr.DataArray:
        path = self.folder / f"{name}.tif"
        with rasterio.open(path) as source:
            values = source.read(1) if classes is None else source.read()
        return labelled(values, native_grid(path), name, classes)

    @cached_property
    def corrections(self) -> dict[str, gpd.GeoDataFrame]:
        """By source: what it is told, one row per correction, as in ``corrections.parquet``."""
        table = gpd.read_parquet(self.folder / "corrections.parquet")
        return {
            str(name): rows.reset_index(drop=True)
            for name, rows in table.groupby("source", sort=True)
        }

    @property
    def sources(self) -> pd.DataFrame:
        """One row per source: its metric before and after, and the gain with its interval."""
        rows = {
            name: {} if one is None else one.model_dump()
            for name, one in (self.metrics.sources or {}).items()
        }
        return pd.DataFrame.from_dict(rows, orient="index")

    def plot(self) -> Figure:
        """Return a figure: the classes and their entropy as maps."""
        code = np.full(256, -1)
        code[list(self.legend.values)] = np.arange(len(self.legend))
        layers = self.layers
        return class_maps(code[layers["estimate"].values], layers["entropy"].values, self.legend)

    def __repr__(self) -> str:
        score = self.metrics.estimate
        how = "not scored"
        if score is not None and score.accuracy is not None:
            how = f"accuracy {score.accuracy:.3f} at {score.n} points"
        return f"Run {self.folder}: {self.metrics.area}, round {self.metrics.round_kept}, {how}"

    def _repr_html_(self) -> str:
        columns = ["kind", "metric", "before", "after", "gain", "low", "high", "n"]
        table = self.sources.reindex(columns=columns).to_html(float_format="%.3f")
        return f"<p><b>{self!r}</b></p>{picture_tag(self.plot())}{table}"
