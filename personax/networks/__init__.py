"""Networks as plain functions over nested dicts of parameters."""
