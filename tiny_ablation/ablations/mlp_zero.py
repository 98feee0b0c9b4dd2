"""Take away every layer's MLP, one layer at a time.

Answers: at which layers does the behaviour use the MLP at all? Zero is far from what an MLP writes (the first one of
many models works like a second embedding), so compare with `mlp_mean`.
"""

from tiny_ablation.ablations.shared.layer_zero import LayerZero


class MlpZero(LayerZero):
    """See the module."""

    name = "mlp_zero"
    component = "mlp_out"


ABLATIONS = (MlpZero(),)
