"""Real areas with a truth that no source saw.

``areas`` writes them as a user would, ``draws`` reads them and deals the anchors, ``methods`` asks
the loop and its rivals, ``figures`` scores what they say. `benchmarks.real_areas` runs them all.
"""
