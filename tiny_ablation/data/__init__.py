"""What is asked of the model: corpora, checks, splits, and prompts as tokens."""
