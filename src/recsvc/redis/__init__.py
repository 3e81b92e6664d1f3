"""Everything that talks to Redis, and the only place that does."""
