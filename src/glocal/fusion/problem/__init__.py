"""The question: which statements are made, and on which ground each of them is heard.

``support`` brings polygons and points onto cells, ``units`` joins cells that hear the same
statements, and ``terms`` puts both together: one term per source over one table of units.
Everything that follows is computed per unit. No reliability is known here yet.
"""
