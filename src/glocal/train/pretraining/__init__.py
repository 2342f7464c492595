"""Pretraining: a recipe, the random choices of each step, the learner, its checkpoints and log."""
