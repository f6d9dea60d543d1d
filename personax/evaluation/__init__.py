"""From an evaluation protocol to results, tables and pages."""
