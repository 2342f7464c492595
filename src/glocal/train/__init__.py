"""Training of the image model: data, pretraining, and the tasks that encoders are used for."""
