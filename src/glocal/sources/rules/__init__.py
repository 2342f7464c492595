"""A classifier of one image from physics alone."""
