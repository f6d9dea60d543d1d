"""From a config to a trained theta."""
