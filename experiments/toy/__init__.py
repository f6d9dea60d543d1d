"""Overfitting where everything is known: mixtures of Gaussian peaks in the plane."""
