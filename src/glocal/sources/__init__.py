"""Adapters, one per kind of data: native files to observations, corrections to native files."""
