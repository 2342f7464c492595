"""Values: frozen, validated when made, no I/O.

What sources say (``observation``, of ``legend``, ``grid``, ``interval``, ``provenance``; images are
a ``chip`` of a ``sensor``), what is found about them (``findings``, ``result``, ``placement``),
what they are told (``correction``) and answer (``answer``), and what the engine assumes
(``setting``). ``typing`` names the arrays, ``columns`` cuts tables, ``accuracy`` scores maps.
"""
