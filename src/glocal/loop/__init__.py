"""Work: one area, its rounds, its evaluation and its report."""
