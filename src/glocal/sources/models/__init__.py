"""Models that learn from the loop: what they see, say, and are taught."""
