"""Simpler ways to make one map of all sources, each as strong as we can make it.

``compare`` lists them all by name: those of every report (``simple``), those of `glocal evaluate`
(``FEW``) and those of the benchmarks (``EVERY``). Each gets what the loop gets: the statements of
all sources, the images, and the same reference points. None of them uses the engine; those that
smooth use its spatial term, with a weight that cross-validation chooses.
"""

from __future__ import annotations

from glocal.loop.score.baselines.compare import EVERY, FEW, baselines
from glocal.loop.score.baselines.simple import simple

__all__ = ["EVERY", "FEW", "baselines", "simple"]
