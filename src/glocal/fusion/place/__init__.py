"""Where things lie: shifts of layers, scenes, single objects and single points.

``alignment`` scores every shift of one layer against another; ``displacement`` solves such
scores of many layers together, and ``shifts`` does so for the layers of one fusion.
``scene_shift`` places an image, ``misplaced`` single objects, ``points`` points of the field.
"""
