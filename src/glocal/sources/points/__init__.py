"""Tables of points with classes, and what the words in them mean: for field sources and anchors.

``table`` finds which column is what and where the points lie, ``personal`` leaves the people
out, ``words`` knows what is meant, and ``read`` makes statements or anchors of all that.
"""
