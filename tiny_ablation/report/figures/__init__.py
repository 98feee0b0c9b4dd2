"""Figures, each as a static PNG for print and as an interactive page that opens offline."""
