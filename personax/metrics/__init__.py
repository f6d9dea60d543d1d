"""Metrics: numbers from arrays."""
