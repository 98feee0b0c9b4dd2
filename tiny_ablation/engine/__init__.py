"""The executor: (sites, replacement, positions, direction) in, per-example metrics out.

`edits` says what can be asked for, `layout` how prompts become forward passes, `forward` how one is run, `executor` how a plan
is worked through fast, and `reference` how one intervention on one prompt is computed slowly and plainly to hold the
executor against.
"""
