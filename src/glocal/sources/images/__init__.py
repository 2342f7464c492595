"""Images: read onto the grid, their clouds, their shift, their gaps."""
