"""Reading and writing files; the only place that touches storage formats shared by sources.

``atomic`` first: every file appears whole or not at all. On it stand ``raster`` (GeoTIFF, read
onto a grid), ``vector`` (tables with geometry) and ``xml``; ``stac`` and ``prov`` describe what
was written. Equal content gives equal bytes.
"""
