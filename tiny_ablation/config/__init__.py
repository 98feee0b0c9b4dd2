"""What can be configured, whether it makes sense, and what of it identifies a run."""
