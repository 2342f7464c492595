"""Bands of coarse pixels at the pixel size of finer ones."""
