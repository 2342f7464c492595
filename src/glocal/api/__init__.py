"""Glocal from Python: what ``import glocal`` offers.

``fuse`` takes what is in memory (``given`` reads it, ``layout`` knows where answers lie, ``fusion``
is what comes back); ``run``, ``open`` and ``simulate`` are in ``runs``, the loop on files.
"""
