"""Training of the image model: pools of windows, geographic splits, pretraining, tasks."""
