"""From units to cells: what anchors teach beyond the pool, and how neighbours are heard.

``regression`` is the one tool; ``context`` reads the pool together with its surroundings,
``direct`` reads the statements without the pool, ``spatial`` lets neighbours agree (a Potts
prior; its loops are ``sweeps``), and ``decoding`` chooses among all of these by anchors that
taught none of them.
"""
