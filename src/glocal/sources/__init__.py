"""Adapters, one room per kind of data: native files to observations, corrections to native files.

``kind`` is the protocol, ``kinds`` the one list, ``config`` what area.yaml may say of all kinds.
Beside the rooms stands what several kinds share: readers (``points``, ``chips``, ``answers``),
``record`` (names of records), ``patches``, ``scoring``, ``telling`` (corrections), and ``stated``
for what gives probabilities.
"""
