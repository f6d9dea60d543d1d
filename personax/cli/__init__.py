"""From the command line to typed options, and from errors to one line."""
