"""From guidance terms to pictures."""
