"""``glocal.fuse``: sources that are in memory, fused; and what comes back of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from glocal.api.given import Meaning, laid_out, legend_of, read
from glocal.api.layout import Cells, Layout
from glocal.api.observed import anchors_at, is_stated, label_of, observe, stated_classes
from glocal.api.pictures import bars, class_maps, picture_tag
from glocal.core.legend import Legend
from glocal.core.observation import Observations, Reliability
from glocal.core.result import relative_entropy
from glocal.core.setting import ENGINE, Setting
from glocal.core.typing import Layers
from glocal.errors import BadSourceError, ConfigError
from glocal.fusion.fuse import Fused
from glocal.fusion.fuse import fuse as fuse_observations
from glocal.fusion.propose import cell_doubts, object_doubts, point_doubts

JUDGES = {"cells": cell_doubts, "objects": object_doubts, "points": point_doubts}


def fuse(
    sources: Any,
    *,
    classes: Iterable[Any] | None = None,
    anchors: Any = None,
    meaning: Mapping[str, Meaning] | None = None,
    roots: Mapping[str, str | Iterable[str]] | None = None,
    setting: Setting = ENGINE,
    seed: int = 0,
) -> Fusion:
    """Estimate the class of everything, and how reliable each source is; none is master.

    Parameters
    ----------
    sources
        By name: arrays (H, W), plain or xarray, with frames of points or polygons beside them; or
        columns (n,) and frames of answers (task, worker, label). Or one table: a column per
        source, or one row per answer. Whole numbers are positions in ``classes``; -1, NaN and
        masked say nothing; texts are names. Probabilities (H, W, K), or xarray with a dimension
        ``class``, are a source too.
    classes
        Names, in order. Not given: the names that are said, sorted, or ``0, 1, ...``.
    anchors
        A probability sample of reference points that no source has seen: a frame like those of
        points, with ``weight`` (inverse inclusion probability) if it differs; an array (H, W) with
        -1 elsewhere; or classes by item. From 30 on they calibrate everything.
    meaning
        Of sources with words of their own: class, or shares of classes, by word.
    roots
        What each source descends from. Sources with a root in common may share errors.
    setting
        What to assume. On a table nothing has neighbours, and each item is a statement.
    seed
        Deals the anchors into folds.

    Raises
    ------
    BadSourceError, GridMismatchError, LegendMismatchError
        A source can't be read, lies elsewhere, or says words that no class explains.
    ConfigError
        ``classes``, ``meaning`` or ``roots`` do not fit the sources.

    Examples
    --------
    >>> a, b, c = [0, 0, 1, 1, -1, 2], [0, 0, 1, 1, 2, 2], [0, 1, 1, 1, 2, 0]
    >>> result = fuse({"a": a, "b": b, "c": c}, classes=["tree", "grass", "water"])
    >>> result.classes.tolist()
    [0, 0, 1, 1, 2, 2]
    """
    layout, given = laid_out(sources)
    meaning, roots = meaning or {}, roots or {}
    strangers = sorted((set(meaning) | set(roots)) - set(given))
    if strangers or (meaning and classes is None):
        raise ConfigError(
            f"meaning and roots name sources, {', '.join(given)}, and meaning needs classes=[...]; "
            f"got {', '.join(strangers) or 'no classes'}"
        )
    stated = {name: one for name, one in given.items() if is_stated(one)}
    said = {name: read(label_of(given[name], name), name) for name in given if name not in stated}
    if classes is None and stated:
        classes = stated_classes(next(iter(stated.values())))
    legend = legend_of(classes, list(said.values()))
    observations = {}
    for name, one in given.items():
        root = roots.get(name, name)
        observations[name] = observe(
            one,
            said.get(name),
            layout,
            legend,
            source=name,
            meaning=meaning.get(name),
            roots=frozenset({root} if isinstance(root, str) else root),
        )
    if not isinstance(layout, Cells):
        setting = replace(setting, spatial=False, parts=0, cells_per_statement=1.0)
    known = None if anchors is None else anchors_at(anchors, layout, legend)
    with threadpool_limits(1):  # so that results do not depend on the number of cores
        fused = fuse_observations([*observations.values()], known, seed=seed, setting=setting)
    names = all(one.names for one in said.values() if one.known)
    return Fusion(
        fused=fused,
        layout=layout,
        legend=legend,
        observations=observations,
        given=given,
        names=names,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Fusion:
    """What the sources together say, and what is thought of each of them.

    On a grid layers are ``xarray.DataArray`` with the coordinates and CRS of the input; of a table
    they are pandas columns and frames with its index.
    """

    fused: Fused
    """The engine's own result."""

    layout: Layout
    legend: Legend
    observations: dict[str, Observations]
    given: dict[str, Any]
    """The sources as they were handed over."""

    names: bool
    """Whether classes come out as names; else as positions in `legend`."""

    @cached_property
    def _p(self) -> Layers:
        """Shape (H, W, K)."""
        with threadpool_limits(1):
            return np.exp(self.fused.cells())

    def _word(self, position: NDArray[np.int64]) -> NDArray[Any]:
        """Return classes as the input has them: names, or positions."""
        return np.array(self.legend.names)[position] if self.names else position

    @property
    def classes(self) -> Any:
        """The most probable class everywhere, (H, W) or (n,), in the words of the input."""
        return self.layout.layer(self._word(self._p.argmax(axis=-1)), "class")

    @property
    def probability(self) -> Any:
        """Probability of every class: (class, H, W), or a frame with a column per class."""
        return self.layout.layers(self._p, "probability", self.legend.names)

    @property
    def entropy(self) -> Any:
        """How little is known: 0 (sure) to 1 (nothing), (H, W) or (n,)."""
        log_p = np.log(np.maximum(self._p, np.float32(1e-30)))
        return self.layout.layer(relative_entropy(log_p), "entropy")

    @property
    def disagreement(self) -> Any:
        """How far independent sources contradict each other, 0 to 1, (H, W) or (n,)."""
        return self.layout.layer(self.fused.disagreement(), "disagreement")

    @cached_property
    def reliability(self) -> dict[str, pd.DataFrame]:
        """By source: P(word | class), classes in rows, words in columns.

        A frame of answers on a grid has such a table for each worker.
        """
        return {one.source: self._table(one) for one in self.fused.reliabilities()}

    def _table(self, one: Reliability) -> pd.DataFrame:
        source = self.observations[one.source]
        # regions are parts of the same source: their mean, by what was counted in each
        contexts, classes, words = one.confusion.shape
        strata = 1 if source.stratum is None else int(source.stratum.max(initial=0)) + 1
        shape = (strata, contexts // strata, classes, words)
        weight = one.counts.reshape(shape).sum(axis=3, keepdims=True) + 1e-9
        table = (one.confusion.reshape(shape) * weight).sum(axis=1) / weight.sum(axis=1)
        rows: pd.Index = pd.Index(self.legend.names, name="class")
        if strata > 1:
            workers = sorted(self.given[one.source]["worker"].unique())
            rows = pd.MultiIndex.from_product([workers, rows], names=["worker", "class"])
        columns = pd.Index(source.crosswalk.symbols, name="word")
        return pd.DataFrame(table.reshape(-1, words), index=rows, columns=columns)

    @property
    def weights(self) -> pd.Series:
        """How much each source's evidence counts, 0 to 1, beside others that err alike."""
        weight = {one.source: one.exponent for one in self.fused.reliabilities()}
        return pd.Series(weight, name="weight")

    @property
    def sources(self) -> pd.DataFrame:
        """One row per source: how much it says, what it weighs, how often it is right.

        ``accuracy`` is estimated, not measured: P(a word of the class | class), over the classes as
        they are found.
        """
        share = self._p.reshape(-1, len(self.legend)).mean(axis=0)
        rows = {}
        for name, one in self.observations.items():
            table = self.reliability[name].groupby(level="class", sort=False).mean().to_numpy()
            means = one.crosswalk.at_its_word()[None, :] == np.arange(len(share))[:, None]
            rows[name] = {
                "says": float((one.symbols > 0).mean()),
                "weight": float(self.weights[name]),
                "accuracy": float(((table * means).sum(axis=1) * share).sum()),
            }
        return pd.DataFrame(rows).T

    def corrections(self, source: str, least: float = 0.5) -> pd.DataFrame:
        """Return what all others would change in a source: one row per statement, surest first.

        Columns: where it stands, ``current``, ``proposed`` and ``probability``, that the proposal
        is right, of ``least`` or more. Only what the others propose without the source, and
        without what shares a root with it. A ``GeoDataFrame`` where there is a CRS.
        """
        if source not in self.observations:
            raise BadSourceError(f"no source {source!r}; there are: {', '.join(self.observations)}")
        said = self.observations[source]
        with threadpool_limits(1):
            doubts = JUDGES[said.support](self.fused, said)
        sure = doubts.supported & (said.symbols > 0) & (doubts.probability >= least)
        at = np.flatnonzero(sure)
        at = at[np.argsort(-doubts.probability.ravel()[at], kind="stable")]
        given = self.given[source]
        on_frame = isinstance(given, pd.DataFrame)
        rows = given.iloc[at].copy() if on_frame else self.layout.rows(at)
        rows["current"] = said.words.ravel()[at]
        rows["proposed"] = np.array(self.legend.names)[doubts.proposed.ravel()[at]]
        rows["probability"] = doubts.probability.ravel()[at]
        return rows

    def plot(self) -> Figure:
        """Return a figure: classes and entropy as maps, or of a table the sources as bars."""
        if isinstance(self.layout, Cells):
            return class_maps(self._p.argmax(axis=-1), self.entropy.values, self.legend)
        return bars(self.sources)

    def __repr__(self) -> str:
        shape = " x ".join(map(str, self._p.shape[:2]))
        anchors = self.fused.anchors
        head = f"Fusion of {len(self.given)} sources, {shape} cells, {len(self.legend)} classes"
        return f"{head}, {anchors} anchors\n{self.sources.round(3).to_string()}"

    def _repr_html_(self) -> str:
        share = self._p.reshape(-1, len(self.legend)).mean(axis=0)
        found = pd.DataFrame({"share": share}, index=self.legend.names).to_html(float_format="%.3f")
        table = self.sources.to_html(float_format="%.3f")
        head = repr(self).partition("\n")[0]
        return f"<p><b>{head}</b></p>{picture_tag(self.plot())}{table}{found}"
