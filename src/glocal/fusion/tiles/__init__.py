"""Areas that do not fit into memory.

``kernels`` are the loops over cells that count and look up patterns of statements, ``counting``
keeps these patterns in bounded memory, and ``stream`` fuses them in two passes over tiles. Only
the second pass writes cells; everything between is `fuse` on a small grid of patterns.
"""
