"""Statistics over sites, examples and seeds: one question a file, scipy where it answers it.

Names that mean the same everywhere here: `sums` (n_sites, n_groups) has each group's values summed over its examples, `sizes`
the number of these, (n_groups,) or (n_sites, n_groups), 0 where a site has none of a group; `groups` (n_examples,) is the label
of each example's group; `confidence` is such as 0.95; `rng` is the source of draws, and `n_boot`, `n_draws`, `n_flips` and
`n_splits` say how many there are. Floats are float64.
"""
