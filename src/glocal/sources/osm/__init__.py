"""OpenStreetMap: read, doubted, corrected, told to mappers, and heard again."""
