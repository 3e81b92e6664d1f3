"""precompute: the offline half; from a listening log to a table that is good enough to publish."""
