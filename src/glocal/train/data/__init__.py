"""Data for training: captures found on disk, cut into windows, packed in shards, split by place.

``pool`` lists collections; ``finding`` and its siblings find captures in them, ``captures`` says
what one is; ``folders`` and ``rasters`` read windows, ``shards`` packs them, ``splits`` parts
them.
"""
