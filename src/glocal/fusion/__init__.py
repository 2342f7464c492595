"""The engine: from observations to an estimate and the reliability of every source."""
