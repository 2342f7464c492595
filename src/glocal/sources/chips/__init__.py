"""Files of known sensors as chips, in physical units: for sources of pixels and for training."""
