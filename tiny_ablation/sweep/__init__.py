"""A grid of runs: its plan, its claim on a directory, and what each job of it needs to know."""
