"""Land-cover maps: read, corrected, and told how accurate they are."""
