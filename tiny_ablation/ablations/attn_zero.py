"""Take away what all heads of a layer write together, biases included, one layer at a time.

Answers: at which layers does information have to move between tokens? Zero is far from what attention writes, so an effect says
that the model uses the layer's attention, not that it computes the answer there.
"""

from tiny_ablation.ablations.shared.layer_zero import LayerZero


class AttnZero(LayerZero):
    """See the module."""

    name = "attn_zero"
    component = "attn_out"


ABLATIONS = (AttnZero(),)
