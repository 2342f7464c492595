"""Areas that do not fit into memory.

``kernels`` are the loops over cells that count and look up patterns of statements, ``counting``
keeps these patterns in bounded memory, ``walk`` says in which order tiles are read, ``mosaic``
lays patterns out as a small grid, and ``stream`` fuses in two passes over the tiles. Only the
second pass writes cells; everything between is `fuse` on that small grid.
"""
