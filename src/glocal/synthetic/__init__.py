"""A synthetic earth: truth is known, and every source errs in ways that are set by knobs.

``world`` holds the knobs, ``ground`` what is there, ``bands`` and ``source_*`` what each source
says of it (``fields`` are the random fields that all draw from), ``scene`` all of it together. It
is written as ordinary files (``write``) or given as layers (``earth``); ``measure`` compares the
rates that were drawn with the knobs.
"""

from __future__ import annotations

from glocal.synthetic.earth import Earth
from glocal.synthetic.measure import measured_rates
from glocal.synthetic.scene import Scene, simulate
from glocal.synthetic.world import WORLDS, World, world_named
from glocal.synthetic.write import write_scene

__all__ = [
    "WORLDS",
    "Earth",
    "Scene",
    "World",
    "measured_rates",
    "simulate",
    "world_named",
    "write_scene",
]
