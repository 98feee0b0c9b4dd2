"""The bare Hugging Face model with hooks of its own, for the reference that the engine is held against."""
