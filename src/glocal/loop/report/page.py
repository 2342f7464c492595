"""One page about a run: what was found, who gained, how sure, and what it can't tell."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import geopandas
import jinja2
import numpy as np
import pandas
from pyarrow.lib import ArrowException

from glocal.errors import RunError
from glocal.io.atomic import write_text
from glocal.loop.report import figures
from glocal.loop.score.metrics import read_metrics

FILES = {
    "metrics.json": "scores, rounds, licences",
    "image.tif": "quicklook of the imagery",
    "estimate.tif": "estimated classes",
    "probability.tif": "probability of the class shown",
    "entropy.tif": "entropy of the class probabilities",
    "disagreement.tif": "divergence between families of sources",
    "reliability.parquet": "reliability of each source",
    "corrections.parquet": "proposed corrections",
}
RAMPS = (
    ("probability", "Probability", "of the class shown", True),
    ("entropy", "Entropy", "of all classes, 1 = nothing known", False),
    ("disagreement", "Disagreement", "between families of sources", False),
)
MAX_SYMBOLS = 12
"""Columns of a reliability matrix; rarer symbols are summed in one further column."""

MAX_PICTURES = 12
"""Corrections shown per source."""

DASH = "–"
COLOUR = re.compile(r"[0-9A-Fa-f]{6}")


def write_report(out: Path) -> Path:
    """Write ``out/report.html`` about the run in ``out``; return its path.

    The page needs no other file and no network. A file of the run that is absent is
    named on the page. The same run folder gives the same bytes.

    Raises
    ------
    RunError
        When ``out`` is no folder, or one of its files is damaged.
    """
    if not out.is_dir():
        raise RunError(f"{out} is not a folder; give the folder that `glocal run` has written")
    known = (out / "metrics.json").exists()
    metrics = read_metrics(out).model_dump(mode="json", exclude_none=True) if known else {}
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("glocal.loop", "report"),
        autoescape=True,
        undefined=jinja2.ChainableUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        num=number, signed=signed, span=span, share=share, whole=whole, whole_span=whole_span
    )
    path = out / "report.html"
    template = environment.get_template("report.html.j2")
    write_text(path, template.render(_Page(out=out, metrics=metrics).context()))
    return path


# ---------------------------------------------------------------- words and numbers


def headline(sources: Mapping[str, Mapping[str, Any]]) -> str:
    """Return one honest sentence or two on who gained.

    A source counts as better (or worse) only when the whole interval of its gain is
    on that side of zero.

    >>> headline({"osm": {"gain": 0.1, "low": 0.01, "high": 0.2}, "modis": {"gain": None}})
    '1 of 2 sources is measurably better after its corrections: osm (+0.10, 0.01 to 0.20). \
Not measurable here: modis.'
    """
    if not sources:
        return "This run holds no scores per source, so nothing can be said about gains."
    kinds: dict[str, list[str]] = {"better": [], "worse": [], "level": [], "unknown": []}
    for name, row in sorted(sources.items()):
        kinds[verdict(row)].append(name)
    better = [_with_gain(name, sources[name]) for name in kinds["better"]]
    some = len(better) or "None"
    verb = "is" if len(better) < 2 else "are"
    text = f"{some} of {len(sources)} sources {verb} measurably better after its corrections"
    text = text.replace("its", "their") if len(better) > 1 else text
    text += f": {', '.join(better)}." if better else "."
    if kinds["worse"]:
        text += f" Worse: {', '.join(_with_gain(name, sources[name]) for name in kinds['worse'])}."
    if kinds["level"]:
        text += f" No change that the sample can tell from zero: {', '.join(kinds['level'])}."
    if kinds["unknown"]:
        text += f" Not measurable here: {', '.join(kinds['unknown'])}."
    return text


def verdict(row: Mapping[str, Any]) -> str:
    """Return ``better``, ``worse``, ``level`` or ``unknown`` (no gain or no interval)."""
    if not all(_finite(row.get(key)) for key in ("gain", "low", "high")):
        return "unknown"
    return "better" if row["low"] > 0 else "worse" if row["high"] < 0 else "level"


def _with_gain(name: str, row: Mapping[str, Any]) -> str:
    return f"{name} ({signed(row['gain'])}, {span(row['low'], row['high'])})"


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def number(value: Any, digits: int = 2) -> str:
    """Return a number with a true minus sign; a dash when there is none.

    >>> number(-0.5), number(None)
    ('−0.50', '–')
    """
    return f"{value:.{digits}f}".replace("-", "−") if _finite(value) else DASH


def signed(value: Any, digits: int = 2) -> str:
    """Return a number that always carries its sign."""
    return f"{value:+.{digits}f}".replace("-", "−") if _finite(value) else DASH


def span(low: Any, high: Any, digits: int = 2) -> str:
    """Return ``low to high``, or a dash when either is unknown."""
    if not (_finite(low) and _finite(high)):
        return DASH
    return f"{number(low, digits)} to {number(high, digits)}"


def whole_span(low: Any, high: Any) -> str:
    """Return ``low to high`` in whole numbers, or a dash when either is unknown."""
    return f"{whole(low)} to {whole(high)}" if _finite(low) and _finite(high) else DASH


def share(value: Any) -> str:
    """Return a share as whole percent."""
    return f"{value * 100:.0f} %" if _finite(value) else DASH


def whole(value: Any) -> str:
    """Return a whole number with thin spaces between thousands."""
    return f"{value:,.0f}".replace(",", "\u202f") if _finite(value) else DASH


# ---------------------------------------------------------------- what the page says


@dataclass(frozen=True, kw_only=True, eq=False)
class _Page:
    """The folder of a run, and what its ``metrics.json`` says, as the template asks for it."""

    out: Path
    metrics: dict[str, Any]

    def context(self) -> dict[str, Any]:
        """Return what the template names."""
        metrics = self.metrics
        sources = {name: row or {} for name, row in (metrics.get("sources") or {}).items()}
        rows = [{"name": name, **row} for name, row in sorted(sources.items())]
        baselines = metrics.get("baselines") or {}
        others = [{"name": name, **(row or {})} for name, row in baselines.items()]
        bins = [row for row in metrics.get("calibration") or [] if row.get("n")]
        absent = [(name, what) for name, what in FILES.items() if not (self.out / name).exists()]
        return {
            "m": metrics,
            "headline": headline(sources),
            "missing": absent,
            "classes": self.classes,
            "maps": self.maps(),
            "ramps": self.ramps(),
            "sources": rows,
            "gains": GAINS.of(rows),
            "baselines": others,
            "baseline_chart": BASELINES.of(others),
            "calibration": CALIBRATION.of(bins),
            "reliability": self.reliability(),
            "corrections": self.corrections(),
        }

    @cached_property
    def classes(self) -> list[dict[str, Any]]:
        """The legend with the area of each class; a colour that is not RRGGBB becomes grey."""
        area = {row.get("value"): row for row in self.metrics.get("class_area") or []}
        total = sum(row["area_ha"] for row in area.values() if _finite(row.get("area_ha")))
        rows = []
        for one in self.metrics.get("legend") or []:
            row = {**area.get(one["value"], {}), **one}
            colour, ha = str(one.get("color", "")), row.get("area_ha")
            row["color"] = colour if COLOUR.fullmatch(colour) else "999999"
            row["share"] = ha / total if total and _finite(ha) else None
            rows.append(row)
        return rows

    def maps(self) -> list[dict[str, Any]]:
        """Return the image and the estimate, those that exist."""
        maps, image, estimate = [], self.out / "image.tif", self.out / "estimate.tif"
        if image.exists():
            view = figures.read_view(image)
            alt = "Quicklook of the imagery of the area."
            maps.append(_map(view, figures.colour_map(view), "Image", alt))
        if estimate.exists():
            view = figures.read_view(estimate, categories=True)
            colours = {row["value"]: row["color"] for row in self.classes} or view.palette
            names = {row["value"]: row.get("title") or row["name"] for row in self.classes}
            codes, counts = np.unique(view.values[0][view.valid], return_counts=True)
            largest = ", ".join(
                f"{names.get(int(codes[i]), f'class {codes[i]}')} {share(counts[i] / counts.sum())}"
                for i in np.argsort(-counts, kind="stable")[:4].tolist()
            )
            alt = f"Map of the estimated classes; the largest: {largest or 'none'}."
            maps.append(_map(view, figures.class_map(view, colours), "Estimate", alt))
        return maps

    def ramps(self) -> list[dict[str, Any]]:
        """Return the maps of probability, entropy and disagreement, those that exist."""
        maps = []
        for name, title, what, invert in RAMPS:
            if not (self.out / f"{name}.tif").exists():
                continue
            view = figures.read_view(self.out / f"{name}.tif")
            # Integers without a scale are percent.
            values = view.values[0] / 100 if view.integer else view.values[0]
            inside, top = values[view.valid], 1.0
            if inside.size and not invert:  # the next multiple of 0.05
                top = min(1.0, max(0.05, math.ceil(float(np.percentile(inside, 98)) * 20) / 20))
            mean = number(float(inside.mean())) if inside.size else DASH
            uri = figures.ramp_map(values, view.valid, top, invert=invert)
            alt = f"Map of the {title.lower()} {what}; mean {mean}."
            scale: dict[str, Any] = {"top": number(top) if top < 1 else "1", "open": top < 1}
            scale |= {"what": what, "mean": mean, "css": figures.ramp_css(invert=invert)}
            maps.append(_map(view, uri, title, alt) | scale)
        return maps

    def reliability(self) -> list[dict[str, Any]]:
        """Return one matrix per source, contexts pooled by their counts."""
        path = self.out / "reliability.parquet"
        if not path.exists():
            return []
        table = _read(path, pandas.read_parquet)
        table = table.astype({"source": str, "class": str, "symbol": str})
        order = [str(row["name"]) for row in self.classes]
        by_source = table.groupby("source", sort=True)
        return [_matrix(str(name), rows, order) for name, rows in by_source]

    def corrections(self) -> list[dict[str, Any]]:
        """Return per source what was exported and pictures of the likeliest corrections."""
        path, told = self.out / "corrections.parquet", self.metrics.get("corrections") or {}
        table = _read(path, geopandas.read_parquet) if path.exists() else None
        found = set() if table is None else set(table["source"].astype(str))
        rows = []
        for name in sorted(found | set(told)):
            top = [] if table is None else self.top(table[table["source"] == name])
            rows.append({"name": name, "told": name in told, **told.get(name, {}), "top": top})
        return rows

    def top(self, rows: geopandas.GeoDataFrame) -> list[dict[str, Any]]:
        """Return the likeliest corrections with pictures."""
        image = self.out / "image.tif"
        best = rows.sort_values(["probability", "record"], ascending=[False, True], kind="stable")
        best = best.head(MAX_PICTURES).fillna({"current": "", "proposed": ""})
        drawn = image.exists() and rows.crs is not None
        pictures = figures.crops(image, best.geometry) if drawn else [None] * len(best)
        told = best[["record", "action", "current", "proposed", "probability"]].to_dict("records")
        return [{**one, "picture": picture} for one, picture in zip(told, pictures, strict=True)]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Chart:
    """How rows become a chart and the words for those who can't see it."""

    keys: tuple[str, ...]
    draw: Callable[[Sequence[Any]], str]
    what: str
    told: Callable[[tuple[Any, ...]], str]

    def of(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
        """Return the chart of the rows that have all their numbers; None without any."""
        shown = [
            tuple(row[key] for key in self.keys)
            for row in rows
            if all(key == "name" or _finite(row.get(key)) for key in self.keys)
        ]
        if not shown:
            return None
        alt = f"{self.what}: {'; '.join(self.told(one) for one in shown)}."
        return {"uri": self.draw(shown), "alt": alt, "rows": shown}


GAINS = _Chart(
    keys=("name", "before", "after", "gain", "low", "high"),
    draw=figures.gains_chart,
    what="Before and after",
    told=lambda r: f"{r[0]} {number(r[1])} to {number(r[2])}, gain {signed(r[3])}",
)
BASELINES = _Chart(
    keys=("name", "difference", "low", "high"),
    draw=figures.baseline_chart,
    what="Loop minus baseline",
    told=lambda r: f"{r[0]} {signed(r[1])} ({span(r[2], r[3])})",
)
CALIBRATION = _Chart(
    keys=("confidence", "accuracy", "n"),
    draw=figures.calibration_chart,
    what="Calibration",
    told=lambda r: f"stated {number(r[0])}, right {number(r[1])}, {r[2]} points",
)


def _map(view: figures.MapView, uri: str, title: str, alt: str) -> dict[str, Any]:
    height, width = view.valid.shape
    return {
        "uri": uri,
        "title": title,
        "alt": alt,
        "view": view,
        "width": width,
        "height": height,
        "bar": view.bar and {"percent": f"{view.bar[0] * 100:.2f}", "label": view.bar[1]},
    }


def _matrix(name: str, rows: pandas.DataFrame, order: Sequence[str]) -> dict[str, Any]:
    classes = [c for c in order if c in set(rows["class"])]
    classes += sorted(set(rows["class"]) - set(classes))
    # P(symbol | class), contexts weighted by what they counted for the class.
    weight = rows.groupby(["context", "class"])["count"].transform("sum") + 1e-9
    both = rows.assign(weight=weight, part=rows["probability"] * weight)
    part = both.pivot_table("part", "class", "symbol", aggfunc="sum", fill_value=0)
    total = both.drop_duplicates(["context", "class"]).groupby("class")["weight"].sum()
    pooled = part.div(total, axis=0).reindex(classes)
    count = rows.groupby("symbol")["count"].sum()
    frequent = sorted(pooled.columns, key=lambda s: (-count[s], str(s)))[:MAX_SYMBOLS]
    # Ordered by the class that they speak for, so that errors stand out.
    peak = np.nan_to_num(pooled[frequent].to_numpy()).argmax(axis=0)
    shown = pooled[[frequent[i] for i in np.argsort(peak, kind="stable").tolist()]]
    rest = pooled.shape[1] - len(frequent)
    columns = [str(s) for s in shown.columns] + ([f"{rest} others"] if rest else [])
    cells = shown.to_numpy()
    if rest:
        cells = np.column_stack([cells, pooled.drop(columns=frequent).sum(axis=1)])
    n = rows.groupby("class")["count"].sum().reindex(classes)
    return {
        "name": name,
        "columns": columns,
        "rows": [(c, float(n[c]), row) for c, row in zip(classes, cells.tolist(), strict=True)],
        "contexts": int(rows["context"].nunique()),
        "exponent": float(rows["exponent"].mean()) if "exponent" in rows else None,
        "family": ", ".join(sorted(set(rows["family"].dropna().astype(str))))
        if "family" in rows
        else "",
    }


def _read(path: Path, reader: Any) -> Any:
    try:
        return reader(path)
    except (ArrowException, OSError, ValueError) as error:
        raise RunError(
            f"{path.name} can't be read ({error}); "
            "remove it and run the same command again, it will be written anew"
        ) from error
