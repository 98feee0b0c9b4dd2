"""What is measured at the answer: one metric a file, found by its name."""
