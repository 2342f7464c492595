"""What an encoder is used for, with the floors that it has to beat.

A room per task, and ``segment`` for maps of classes. ``embedding`` and ``dense`` say how an
encoder is asked for a picture or for every cell, ``unet`` is the rival without one, ``quality``
scores images.
"""
