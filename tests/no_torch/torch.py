"""Hides the torch that is installed, whose import takes seconds of every start."""

raise ImportError("torch is hidden by tests/no_torch")
