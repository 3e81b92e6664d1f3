"""Simulated listeners: worlds of tracks and tastes, and two drivers of one listener model.

A recommender never sees a world; it learns of it only what the API tells it.
"""
