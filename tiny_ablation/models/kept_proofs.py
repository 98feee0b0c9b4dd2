"""What was proven of a model, kept in the user's cache, so that the next process need not prove it again.

    <cache>/proofs/<name>-<key>/proof.json      sealed; written in one step

The key is made of everything that decides it: weights, processing, the code of this folder, libraries, device, precision,
threads. It is used only if the model, in a pass over a few tokens, gives bit for bit the same block outputs and logits as when
it was proven, so that a model whose weights or code were changed in any way that shows there is proven anew. Costs that pass.

Models that are made in memory are small, and are proven each time.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tiny_ablation.config.choices import ModelSource
from tiny_ablation.config.identity import hash_json
from tiny_ablation.errors import TinyAblateError, is_out_of_memory
from tiny_ablation.models.discovery import probe_ids, run
from tiny_ablation.models.hookpoints import HookPoint
from tiny_ablation.models.placed import weight_like
from tiny_ablation.models.proof import Parts
from tiny_ablation.models.watch import showing
from tiny_ablation.paths import cache_dir
from tiny_ablation.store.cache_entries import LEFT, Entry, mark
from tiny_ablation.store.checksummed_json import read_sealed, write_sealed
from tiny_ablation.version import __version__

if TYPE_CHECKING:
    from tiny_ablation.models.loader import LoadedModel

RECORD = "proof.json"
_KEPT = {source.value for source in (ModelSource.wheel, ModelSource.hub, ModelSource.local)}


@dataclass
class KeptProof:
    """What is kept of one model, or will be."""

    path: Path | None  # None for a model whose proof is not kept
    content: dict[str, Any] = field(default_factory=dict)  # of the file; empty if nothing in it can be used

    def off(self, longest: int) -> dict[str, str] | None:
        """Which fast paths were found not to be exact at a length, and why; None where that was not looked at."""
        return self.content.get("off", {}).get(str(longest))

    def keep_off(self, longest: int, off: Mapping[str, str]) -> None:
        """Keep which fast paths are not exact at a length; failures that may be the machine's are not kept."""
        if all("logits differ" in why for why in off.values()):
            self._write({"off": {**self.content.get("off", {}), str(longest): dict(off)}})

    def keep_parts(self, model: "LoadedModel", parts: Sequence[Parts], shown: str) -> None:
        """Keep where the parts of a model were proven to be, and the print of what its blocks gave."""
        if self.path is not None:
            self._write({"shows": shown, "attention": model.origin.get("attention")} | _written(model.hf, parts))

    def _write(self, more: Mapping[str, Any]) -> None:
        if self.path is None:
            return
        self.content |= more
        with suppress(TinyAblateError, OSError):  # a cache that cannot be written costs time, not the run
            self.path.parent.mkdir(parents=True, exist_ok=True)
            mark(self.path.parent)
            write_sealed(self.path, {"files": {}} | self.content)


def recall(model: "LoadedModel") -> tuple[KeptProof, list[Parts] | None]:
    """What is kept of a model, and its parts; None where nothing is, or not of this very model."""
    if model.origin.get("source") not in _KEPT:
        return KeptProof(None), None
    weight = weight_like(model.hf)
    key = {  # all that decides what is found out about a model, but for what its code and its weights in memory really are
        "weights": model.weights_hash,
        "processing": [model.origin.get("weights"), model.origin.get("quantization")],
        "class": f"{type(model.hf).__module__}.{type(model.hf).__qualname__}",
        "attention": model.hf.config._attn_implementation,
        "code": f"{__version__} {_code()}",
        "versions": {name: version(name) for name in ("torch", "transformers")},
        "device": str(weight.device),
        "machine": torch.backends.cpu.get_cpu_capability(),
        "dtype": str(weight.dtype),
        "threads": torch.get_num_threads(),
    }
    path = cache_dir() / "proofs" / f"{model.name}-{hash_json(key)[:16]}" / RECORD
    content: dict[str, Any] = {}
    try:
        content = read_sealed(path)
        if content["attention"].startswith("eager"):
            model.hf.config._attn_implementation = "eager"
        parts = _read(model.hf, content)
    except Exception as error:  # damaged, or of a model with other modules: proven anew
        if is_out_of_memory(error):
            raise
        parts = None
    if parts is None:
        model.hf.config._attn_implementation = key["attention"]
        return KeptProof(path, {"key": key}), None
    model.origin["attention"] = content["attention"]
    return KeptProof(path, content), parts


def entries() -> Iterator[Entry]:
    """What is in the cache."""
    for path in sorted((cache_dir() / "proofs").glob("*")):
        kind = "left behind" if path.name.startswith(".") and LEFT in path.name else "proof"
        if (entry := Entry(kind, path, path.with_name(f".{path.name}.lock"), RECORD)).is_ours:
            yield entry


@cache
def _code() -> str:
    """A SHA-256 of this folder, which says what is proven and how."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def _written(hf: Any, parts: Sequence[Parts]) -> dict[str, Any]:
    """Parts as JSON: modules by name, and each layout of units once."""
    names = {module: name for name, module in hf.named_modules()}
    layouts: dict[str, int] = {}

    def units(point: HookPoint) -> int | None:
        if point.units is None:
            return None
        n, width, first = *point.units.shape, int(point.units[0, 0])
        plain = torch.equal(point.units.cpu(), _in_order(first, n, width))
        text = json.dumps([first, n, width] if plain else point.units.tolist())
        return layouts.setdefault(text, len(layouts))

    blocks = [
        {
            "module": names[part.module],
            "mlp": None if part.mlp is None else names[part.mlp],
            "refused": part.refused,
            "points": {
                component: {
                    "module": names[point.module],
                    "side": point.side,
                    "units": units(point),
                    "factor": point.factor.tolist() if isinstance(point.factor, Tensor) else point.factor,
                }
                for component, point in part.points.items()
            },
        }
        for part in parts
    ]
    return {"blocks": blocks, "layouts": [json.loads(text) for text in layouts]}


def _in_order(first: int, n: int, width: int) -> Tensor:
    """(n, width): units that are consecutive."""
    return first + torch.arange(n * width).view(n, width)


def _read(hf: Any, content: Mapping[str, Any]) -> list[Parts] | None:
    """The parts; None where the model does not show what it showed when they were proven."""
    layouts = [_in_order(*each) if each and isinstance(each[0], int) else torch.tensor(each) for each in content["layouts"]]
    blocks = [hf.get_submodule(block["module"]) for block in content["blocks"]]
    with showing(blocks) as seen:
        shown = seen.print(run(hf, probe_ids(hf)))
    if shown != content["shows"]:
        return None
    return [
        Parts(
            module=module,
            points={
                component: HookPoint(
                    label=f"blocks.{layer}.{component}",
                    module=hf.get_submodule(point["module"]),
                    side=point["side"],
                    units=None if point["units"] is None else layouts[point["units"]],
                    factor=torch.tensor(point["factor"]) if isinstance(point["factor"], list) else point["factor"],
                )
                for component, point in block["points"].items()
            },
            refused=dict(block["refused"]),
            mlp=None if block["mlp"] is None else hf.get_submodule(block["mlp"]),
            result=result,
        )
        for layer, (block, module, result) in enumerate(zip(content["blocks"], blocks, seen.results, strict=True))
    ]
