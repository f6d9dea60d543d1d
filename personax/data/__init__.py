"""Pictures and captions; NumPy only."""
