"""From area.yaml to values: the configuration, and everything that it names, read once."""
