"""Files of known sensors as chips, in physical units: for sources of pixels and for training.

``read`` is the door, one reader per kind of image; ``sentinel2`` knows the layouts of its
products, ``indices`` what rooms test in single cells. Bands of sensors stand in ``core/sensor``.
"""
