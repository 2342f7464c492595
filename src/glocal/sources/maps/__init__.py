"""Land-cover maps: read, corrected, and told how accurate they are.

``kind`` is the face; ``observe`` reads codes of fine and of coarse cells. A correction of a map is
a patch (``patches``); the corrected map, shares of classes in coarse cells and a report on
accuracy are written in ``write``, with ``quality`` for its ISO 19157 form.
"""
