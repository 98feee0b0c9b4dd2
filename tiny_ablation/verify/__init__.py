"""Whether the numbers can be trusted: a slice of a run computed again by other means."""
