"""From area.yaml to values: the configuration, and everything that it names, read once.

``schema`` says which fields there are, ``config`` reads and explains them, ``area`` reads what
they name.
"""
