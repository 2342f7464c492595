"""Glocal: symmetric fusion of geospatial data. No source is master; every source gains.

``glocal.fuse`` fuses arrays and tables in memory; ``glocal.run`` turns the loop on files, and
``glocal.open`` reads what it left; ``glocal.simulate`` draws an earth with known truth.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from glocal.later import load

if TYPE_CHECKING:
    from glocal.api.fusion import Fusion, fuse
    from glocal.api.runs import Run, open, run, simulate
    from glocal.core.setting import DAWID_SKENE, ENGINE, Setting

__all__ = [
    "DAWID_SKENE",
    "ENGINE",
    "Fusion",
    "Run",
    "Setting",
    "__version__",
    "fuse",
    "open",
    "run",
    "simulate",
]

try:
    __version__ = version("glocal")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0.0.0"

LIVES_IN = {
    "DAWID_SKENE": "glocal.core.setting",
    "ENGINE": "glocal.core.setting",
    "Fusion": "glocal.api.fusion",
    "Run": "glocal.api.runs",
    "Setting": "glocal.core.setting",
    "fuse": "glocal.api.fusion",
    "open": "glocal.api.runs",
    "run": "glocal.api.runs",
    "simulate": "glocal.api.runs",
}
"""Imported when first asked for: the engine, its compiler and pandas take a second."""


def __getattr__(name: str) -> Any:
    if name not in LIVES_IN:
        raise AttributeError(f"module 'glocal' has no attribute {name!r}")
    return getattr(load(LIVES_IN[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
