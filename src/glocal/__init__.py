"""Glocal: symmetric fusion of geospatial data. No source is master; every source gains."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

__all__ = ["__version__"]

try:
    __version__ = version("glocal")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0.0.0"
