"""What sites are called wherever people see them: tables, pages, figures, messages."""

from collections.abc import Mapping
from typing import Any


def head_label(layer: Any, head: Any) -> str:
    """A head, such as `L0H4`: head 4 of layer 0, both counted from 0. Of plotly's templates, a template."""
    return f"L{layer}H{head}"


def site_label(key: Mapping[str, Any], *, sentence: bool = False) -> str:
    """A site by the columns that name it: `L12H3`, `L0H1 + L2H3`, `L4 mlp_out`; in a sentence `layer 4, mlp_out`.

    Columns stand in the order of their table; the scale is left to the caller.
    """
    parts, done = [], {"scale"}
    if "layer_a" in key:
        parts.append(f"{head_label(key['layer_a'], key['head_a'])} + {head_label(key['layer_b'], key['head_b'])}")
        done |= {"layer_a", "head_a", "layer_b", "head_b"}
    elif "head" in key:
        parts.append(head_label(key["layer"], key["head"]))
        done |= {"layer", "head"}
    for name, value in key.items():
        if name == "layer" and name not in done and not sentence:
            parts.append(f"L{value}")
        elif name not in done:
            parts.append(value if isinstance(value, str) else f"{name.replace('_', ' ')} {value}")
    return (", " if sentence else " ").join(parts)
