"""Glocal from Python: what ``import glocal`` offers.

`glocal.fuse` takes what is in memory: ``given`` reads it, ``layout`` knows where answers lie,
``fusion`` is what comes back. `glocal.run`, `glocal.open` and `glocal.simulate`, the loop on
files, are in ``runs``.
"""
