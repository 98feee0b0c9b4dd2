"""What can be done to a model: sites, replacements, and one small module per kind that combines them.

A kind is a module in `kinds/` holding a `ABLATION`, and a YAML file in `conf/ablation/` that chooses its defaults. Nothing else
has to be registered.
"""
