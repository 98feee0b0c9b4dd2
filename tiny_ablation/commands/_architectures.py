"""The proof at load over a tiny random model of each architecture, in a process of its own that may crash or hang."""

import multiprocessing
import time
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from tiny_ablation.errors import TinyAblateError
from tiny_ablation.models.hookpoints import COMPONENTS

_LONGEST = 16  # tokens of the prompts at which fast paths are proven, several windows of a tiny model
_SECONDS = 60  # for one architecture; the first one waits for imports as well
EXACT, PART, REFUSED, NONE = "exact", "in part", "refused", "none"
NOT_CAUSAL = "a token changes what stands in front of it"
BAR = ("z", "mlp_out", "resid_pre", "resid_post")  # heads, MLPs and residual streams


class Architecture(NamedTuple):
    """What was found of one architecture."""

    name: str  # its model type
    # of each component whether it is exact in all blocks that have one, in part of them, refused, or whether no block has one
    components: dict[str, str]
    refused: dict[str, list[str]]  # why, with the components that are refused for it
    off: dict[str, str]  # the fast ways of computing that do not agree with the bare model, and why
    error: str | None  # why nothing can be ablated in it; None where something can
    built: bool  # whether transformers could make a tiny model of it
    seconds: float  # that it took

    @property
    def attends(self) -> bool:
        """Whether it has attention, as far as could be seen."""
        return not self.components or self.components["z"] != NONE

    @property
    def meets_bar(self) -> bool:
        """Whether heads, MLPs and residual streams are exact wherever it has them."""
        return bool(self.components) and all(self.components[c] in (EXACT, NONE) for c in BAR) and self.attends


def examined(names: Sequence[str]) -> Iterator[Architecture]:
    """Each architecture in turn; one that ends or holds up the process is told as that, and the others go on."""
    left, context = list(names), multiprocessing.get_context("spawn")
    while left:
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=_work, args=(sender, left), daemon=True)
        process.start()
        sender.close()
        fault = f"it took longer than {_SECONDS} s"
        try:
            while left and receiver.poll(_SECONDS):
                yield receiver.recv()
                left = left[1:]
        except EOFError:
            fault = "the process that built it ended"
        process.kill()
        process.join()
        if left:
            yield _failed(left[0], fault, built=False)
            left = left[1:]


def _work(sender: Any, names: Sequence[str]) -> None:
    import torch
    import transformers

    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    for name in names:
        start = time.perf_counter()
        sender.send(examine(name)._replace(seconds=round(time.perf_counter() - start, 2)))


def examine(name: str) -> Architecture:
    """Build a tiny random model, and take it apart."""
    from tiny_ablation.models.discovery import ABSENT
    from tiny_ablation.models.loader import LoadedModel
    from tiny_ablation.models.network import build_network
    from tiny_ablation.models.random_models import random_model
    from tiny_ablation.models.sources.toy_tokenizer import toy_tokenizer

    try:
        hf = random_model(name)
    except TinyAblateError as error:
        return _failed(name, str(error), built=False)
    except Exception as error:  # transformers refuses configs and asks for packages in many ways
        said = next((line for line in str(error).splitlines() if line.strip()), "")
        return _failed(name, f"{type(error).__name__}: {said.strip()}", built=False)
    if not _is_causal(hf):
        return _failed(name, NOT_CAUSAL, built=False)
    try:
        network = build_network(LoadedModel(name, hf, toy_tokenizer(), (), name, {}))
        off = network.paths(_LONGEST).off
    except TinyAblateError as error:
        return _failed(name, str(error).removeprefix(f"model {name}: "), built=True)
    components, refused = {}, {}
    for component in COMPONENTS:
        exact = any(component in part.points for part in network.parts)
        reasons = {r for p in network.parts if (r := p.refused.get(component)) is not None and r not in ABSENT}
        components[component] = (PART if exact else REFUSED) if reasons else EXACT if exact else NONE
        for reason in sorted(reasons):
            refused.setdefault(reason, []).append(component)
    return Architecture(name, components, refused, off, None, built=True, seconds=0.0)


def _is_causal(hf: Any) -> bool:
    """Whether a token changes nothing in front of it; taken for granted of a model that fails."""
    import torch

    from tiny_ablation.models.discovery import probe_ids, run

    ids = probe_ids(hf)
    other = ids.clone()
    other[0, -1] = ids[0, 0]
    try:
        logits, changed = run(hf, ids), run(hf, other)
    except Exception:  # which `build_network` tells better
        return True
    return torch.allclose(logits[0, :-1], changed[0, :-1], rtol=1e-3, atol=1e-4 * logits.abs().max().item())


def _failed(name: str, error: str, *, built: bool) -> Architecture:
    return Architecture(name, {}, {}, {}, error, built, 0.0)
