"""The transformer: one class, many checkpoints."""
