"""Controls: what may happen inside an attention layer."""
