"""A classifier of one image from physics alone: ``thresholds`` are its rules, ``kind`` its face."""
