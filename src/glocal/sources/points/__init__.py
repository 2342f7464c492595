"""Tables of points with classes, and what the words in them mean: for field sources and anchors."""
