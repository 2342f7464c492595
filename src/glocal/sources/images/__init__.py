"""Images: read onto the grid, their clouds, their shift, their gaps.

Read ``kind`` first, then what it sees: ``clouds`` (which cells show the ground) and ``fill``
(what hidden cells hold). What goes back is put together in ``write``, of ``registration``
(where the scene lies) and ``filled``. The files are read in ``sources/chips``.
"""
