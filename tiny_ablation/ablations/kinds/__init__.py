"""The ablation kinds, one module each; found by the module's name."""
