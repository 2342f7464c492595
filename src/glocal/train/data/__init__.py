"""Data for training: captures found on disk, cut into windows, packed in shards, split by place."""
