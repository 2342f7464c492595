"""OpenStreetMap: read, doubted, corrected, told to mappers, and heard again.

``kind`` is the face. In: ``file``, ``history`` and ``tags`` say what an extract holds, ``layer``
reads one without versions, ``observe`` makes statements of either. Out: ``decide`` makes
corrections of doubts and of what is ``unmapped``; ``write`` gives them out through ``change``,
``maproulette`` and ``osmose``. Back: ``heard_edits`` and ``heard_tasks`` tell what mappers made
of them.
"""
