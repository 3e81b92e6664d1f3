"""What events tell: metrics of listeners, effects of treatments, values of other policies."""
