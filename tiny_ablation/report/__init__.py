"""What people see: the terminal, the figures and the page of a run. Reads tables; computes no statistics."""
