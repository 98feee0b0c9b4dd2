"""One run: what it is, what it needs, what it measures."""
