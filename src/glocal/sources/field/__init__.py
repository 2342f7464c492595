"""Points that people recorded in the field: read, flagged, and where to look next."""
