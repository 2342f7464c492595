"""Points that people recorded in the field: read, flagged, and where to look next.

``kind`` is the face; tables are read in ``sources/points``. What goes back: the observers' own
table (``write``), and places to visit (``sampling``, of which ``pivotal`` is the last step). What
they found there comes back in ``forms``.
"""
