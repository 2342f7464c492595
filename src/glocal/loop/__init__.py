"""Work: one area, its rounds, its evaluation and its report.

Read ``run`` first: it names the steps. ``area`` reads what a configuration names, ``rounds``
fuses and tells each source what was found, ``score`` asks held-out points, ``report`` makes the
page. ``answers`` reads what people said to an earlier run, ``stale`` tells whether its
corrections still fit.
"""
