"""What `tiny-ablate selfcheck` is made of: models with a known circuit, simulated effects, and the bars."""
