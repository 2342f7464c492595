"""Turns of the loop: fuse, teach, listen; and what each source is told.

``turns`` makes a round and decides whether it is kept; ``findings`` is what a round found about
one source, ``telling`` hands it to the source's kind; ``files`` writes a round and the run.
"""
