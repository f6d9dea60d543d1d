"""Denoisers, noise schedules, solvers, guidance and editing."""
