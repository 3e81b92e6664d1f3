"""Learns the session model: what `recsvc.taste` infers with."""
