"""Training of the image model: data, pretraining, and the tasks that encoders are used for.

Read ``data`` first (what a sample is), then ``pretraining`` (how the encoder learns), then
``tasks``. The encoder itself is the package msgfm.
"""
