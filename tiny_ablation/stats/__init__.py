"""Statistics over sites, examples and seeds: one question a file, scipy where it answers it."""
