"""Turns of the loop: fuse, teach, listen; and what each source is told."""
