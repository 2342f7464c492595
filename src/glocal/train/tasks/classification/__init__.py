"""Which class a picture is of.

``scenes`` reads labelled pictures; ``statistics`` is the floor, ``probes`` classify features,
``networks`` learn all of it; ``classify`` trains and scores, ``compare`` says how sure a
difference is.
"""
