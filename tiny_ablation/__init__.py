"""Which parts of a language model carry a behaviour, how sure are we, and what stays the same."""

__version__ = "0.1.0"
