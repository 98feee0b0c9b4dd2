"""What a run writes, and reading it back: schemas, run directory, atomic store, manifest."""
