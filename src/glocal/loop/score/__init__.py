"""How good everything is, on points and truths that nothing was made of.

``folds`` holds out points and asks, ``summary`` adds up with intervals over blocks,
``known_truth`` compares with a simulated world; ``metrics`` types what ``account`` puts into
metrics.json. ``baselines`` is the one list of simpler ways.
"""
