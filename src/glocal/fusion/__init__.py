"""The engine: from observations to an estimate and the reliability of every source.

Read in this order: ``core/setting`` (what is assumed), ``problem`` (statements on units),
``reliability`` (of whom, who repeats whom, how old), ``estimate`` (messages, and expectation-
maximisation), ``decode`` (from units to cells), and ``fuse``, the door to all of these. On top
of it stand ``propose`` (doubts about a source), ``alarms`` (doubts about the loop), ``place``
(where things lie) and ``tiles`` (large areas). The mathematics is in docs/fusion.md.
"""
