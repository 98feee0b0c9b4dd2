"""Values of another run put into a run: of the paired prompt (activations, paths), or of the clean one into a noised one."""

from tiny_ablation.ablations.patching.activation_patch import ActivationPatch
from tiny_ablation.ablations.patching.causal_trace import CausalTrace
from tiny_ablation.ablations.patching.path_patch import PathPatch

ABLATIONS = (ActivationPatch(), CausalTrace(), PathPatch())
