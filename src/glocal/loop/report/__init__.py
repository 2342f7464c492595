"""One page about a run.

``page`` collects what is said, ``figures`` draws, ``report.html.j2`` lays out.
"""
