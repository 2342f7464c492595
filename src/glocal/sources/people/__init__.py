"""What people answered to the corrections of a run, read from their own tools.

``kind`` is the face; ``tables`` reads our own tables of answers, and ``sources/answers`` what all
who hear share. ``review`` turns answers into evidence, ``rates`` learns how far people follow a
suggestion that they were shown.
"""
