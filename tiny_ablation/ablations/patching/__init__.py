"""Values of another run put into a run: of the paired prompt (activations, paths), of another model, or into a noised run."""

from tiny_ablation.ablations.patching.activation_patch import ActivationPatch
from tiny_ablation.ablations.patching.causal_trace import CausalTrace
from tiny_ablation.ablations.patching.model_diff import ModelDiff
from tiny_ablation.ablations.patching.path_patch import PathPatch

ABLATIONS = (ActivationPatch(), CausalTrace(), ModelDiff(), PathPatch())
