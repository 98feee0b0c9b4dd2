"""Features of a sparse autoencoder, and the autoencoder itself."""

from tiny_ablation.ablations.sae.toggle import SaeToggle
from tiny_ablation.ablations.sae.train import SaeTrain

ABLATIONS = (SaeToggle(), SaeTrain())
