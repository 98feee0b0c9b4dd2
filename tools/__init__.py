"""What `make` runs beside the package: the audit of dependencies, the bill of materials."""
