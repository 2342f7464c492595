"""Figures of what was fused, for notebooks."""

from __future__ import annotations

import base64
from io import BytesIO
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from glocal.core.legend import Legend


def class_maps(classes: NDArray[Any], entropy: NDArray[Any], legend: Legend) -> Figure:
    """Return two maps side by side: positions of classes (H, W; -1: none), and entropy (H, W)."""
    figure = Figure(figsize=(9, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    colours = [f"#{one.color}" for one in legend.classes]
    shown = np.ma.masked_less(classes, 0)
    left.imshow(
        shown, ListedColormap(colours), vmin=-0.5, vmax=len(colours) - 0.5, interpolation="nearest"
    )
    left.set_title("most probable class")
    present = [k for k in range(len(colours)) if (classes == k).any()]
    left.legend(
        handles=[Patch(color=colours[k], label=legend.classes[k].title) for k in present],
        loc="upper left",
        bbox_to_anchor=(0, -0.02),
        ncols=3,
        frameon=False,
        fontsize=8,
    )
    image = right.imshow(entropy, "magma", vmin=0, vmax=1, interpolation="nearest")
    right.set_title("entropy: 0 sure, 1 nothing known")
    figure.colorbar(image, ax=right, shrink=0.8)
    for axes in (left, right):
        axes.set_axis_off()
    return figure


def bars(sources: pd.DataFrame) -> Figure:
    """Return a bar per source (at most the 30 that say most): how often it is right."""
    shown = sources.sort_values("says", ascending=False).head(30).sort_values("accuracy")
    figure = Figure(figsize=(6, 1 + 0.25 * len(shown)), layout="constrained")
    axes = figure.subplots()
    axes.barh([str(one) for one in shown.index], shown["accuracy"], color="#4477AA")
    axes.set_xlim(0, 1)
    axes.set_xlabel("how often it is right, as estimated")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def picture_tag(figure: Figure) -> str:
    """Return a figure as an HTML image."""
    FigureCanvasAgg(figure)
    data = BytesIO()
    figure.savefig(data, format="png", dpi=80)
    return f'<img src="data:image/png;base64,{base64.b64encode(data.getvalue()).decode()}">'
