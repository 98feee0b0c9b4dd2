"""What several slices share: sites, replacements, sets and rankings of heads, means, and screening by gradients."""
