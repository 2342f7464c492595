"""Models that learn from the loop: what they see, say, and are taught.

``kind`` is the face. ``predict`` holds the classifier that every round teaches anew, out of
fold, and ``features_msgfm`` what the image model adds to what it sees. ``teach`` decides what
labels are worth to it; ``write`` and ``chips`` give them away.
"""
