"""Compiles the RASP programs of `model=tracr_*` and writes what the package ships. By hand; not a test.

    python -m venv tracr && tracr/bin/pip install tracr-pypi==1.0.0 safetensors
    tracr/bin/python -m tests.tracr.export

The compiler is Tracr (Lindner et al. 2023, arXiv:2301.05062; Apache-2.0) and brings JAX; nobody else needs either. For each
program there is one file of weights, of which only those that are not 0 are kept, and one JSON file with its words, what the
compiled model (run by Tracr itself) answers to a few hundred inputs, and which heads are live. A head is live when setting it
to zero changes an answer's logits in a plain float64 loop. Nothing is written unless

- Tracr's model, the RASP interpreter and the plain loop give the same answer at every position of every input;
- there are as many live heads as the program has attention operations (Aggregate, SelectorWidth).
"""

import json
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests.tracr import plain

TARGET = Path(__file__).parents[2] / "tiny_ablation/models/sources/programs"
BOS = "<s>"
N_CASES = 320


@dataclass(frozen=True)
class Program:
    """What is compiled.

    Attributes:
        rasp: makes the program, given `tracr.compiler.lib` and `tracr.rasp.rasp`.
        text: the program as the documentation calls it.
        words: the input tokens.
        lengths: of the inputs.
        draw: one input of a length.
    """

    rasp: Callable[[Any, Any], Any]
    text: str
    words: tuple[Any, ...]
    lengths: tuple[int, ...]
    draw: Callable[[random.Random, int], list[Any]] | None = None


def _brackets(rng: random.Random, n: int) -> list[str]:
    """Balanced, or balanced but for one closed too early, or with one turned around, or anything; in turn."""
    out = _balanced(rng, n)
    kind = rng.randrange(6)
    if kind == 0:
        out = [rng.choice("()[]") for _ in range(n)]
    elif kind == 1:
        at = rng.randrange(n)
        out[at] = {"(": ")", ")": "(", "[": "]", "]": "["}[out[at]]
    elif kind == 2:  # as many closed as opened, in an order that is wrong somewhere
        rng.shuffle(out)
    return out


def _balanced(rng: random.Random, n: int) -> list[str]:
    """A shuffle of two balanced sequences; the last is left over where `n` is odd."""
    out, open_ = [], {"()": 0, "[]": 0}
    for left in range(n, 0, -1):
        must_close = sum(open_.values()) >= left
        kinds = [pair for pair, depth in open_.items() if depth]
        if kinds and (must_close or rng.random() < 0.5):
            pair = rng.choice(kinds)
            open_[pair] -= 1
            out.append(pair[1])
        else:
            pair = rng.choice(list(open_))
            open_[pair] += 1
            out.append(pair[0])
    return out


PROGRAMS = {
    "reverse": Program(lambda lib, rasp: lib.make_reverse(rasp.tokens), "make_reverse(tokens)", tuple("abcde"), (3, 4, 5, 6)),
    "sort": Program(
        lambda lib, rasp: lib.make_sort(rasp.tokens, rasp.tokens, max_seq_len=6, min_key=1),
        "make_sort(tokens, tokens, max_seq_len=6, min_key=1)",
        (1, 2, 3, 4, 5),
        (3, 4, 5, 6),
    ),
    "histogram": Program(lambda lib, _rasp: lib.make_hist(), "make_hist()", tuple("abcd"), (4, 5, 6)),
    "dyck": Program(
        lambda lib, _rasp: lib.make_shuffle_dyck(["()", "[]"]),
        'make_shuffle_dyck(["()", "[]"])',
        tuple("()[]"),
        (4, 5, 6, 7, 8),
        _brackets,
    ),
}


def main() -> None:
    """Write all programs."""
    from safetensors.numpy import save_file

    TARGET.mkdir(exist_ok=True)
    for name, program in PROGRAMS.items():
        content, tensors = export(program)
        save_file(tensors, TARGET / f"{name}.safetensors", metadata={"license": "Apache-2.0"})
        text = json.dumps(content, indent=1, ensure_ascii=False)
        (TARGET / f"{name}.json").write_text(text + "\n", encoding="utf-8")
        size = (TARGET / f"{name}.safetensors").stat().st_size
        print(name, content["live"], content["constant"], len(content["cases"]), f"{size} bytes")  # noqa: T201


def export(program: Program) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The JSON content and the tensors of one program."""
    from tracr.compiler import compiling, lib, rasp_to_graph
    from tracr.rasp import rasp

    sop = program.rasp(lib, rasp)
    model = compiling.compile_rasp_to_model(sop, set(program.words), max(program.lengths), compiler_bos=BOS)
    graph = rasp_to_graph.extract_rasp_graph(sop)
    dense = _weights(model, graph.sink["ID"])
    content = {
        "program": program.text,
        "compiler": "tracr-pypi 1.0.0, tracr.compiler.lib, Apache-2.0",
        "words": _in_order(model.input_encoder.encoding_map),
        "outputs": _in_order(model.output_encoder.encoding_map),
        "shapes": {key: list(array.shape) for key, array in dense.items()},
    }
    tensors = dict(_sparse(dense))
    kept = plain.read(content, tensors)
    content["cases"] = cases = _cases(program, model, sop)
    effects, content["constant"] = _heads(kept, content["words"], cases)
    content["live"] = [list(head) for head, effect in effects.items() if effect > 0]
    content["zeroing_moves_logits_by"] = {f"{layer}.{head}": e for (layer, head), e in effects.items() if e}
    if len(content["live"]) != (n := _attention_operations(graph.graph)):
        raise SystemExit(f"{program.text}: live heads {content['live']}, but {n} attention operations")
    _check(kept, content)
    return content, tensors


def _in_order(encoding: Mapping[Any, int]) -> list[str]:
    return [str(word) for word, _ in sorted(encoding.items(), key=lambda item: item[1])]


def _weights(model: Any, operation: str) -> dict[str, np.ndarray]:
    """Tracr's parameters, heads apart; biases of attention are 0 in every compiled model."""
    cfg = model.model_config
    assert not cfg.layer_norm
    assert not cfg.causal

    def stack(part: str, name: str) -> np.ndarray:
        return np.stack([np.asarray(model.params[f"transformer/layer_{i}/{part}"][name]) for i in range(cfg.num_layers)])

    assert not any(stack(f"attn/{part}", "b").any() for part in ("query", "key", "value", "linear"))
    size = (cfg.num_layers, -1, cfg.num_heads, cfg.key_size)
    read = {name: stack(f"attn/{name}", "w").reshape(size).transpose(0, 2, 1, 3) for name in ("query", "key", "value")}
    return {
        "embed": np.asarray(model.params["token_embed"]["embeddings"]),
        "position": np.asarray(model.params["pos_embed"]["embeddings"]),
        **read,
        "output": stack("attn/linear", "w").reshape(cfg.num_layers, cfg.num_heads, cfg.key_size, -1),
        "mlp_in": stack("mlp/linear_1", "w"),
        "mlp_in_bias": stack("mlp/linear_1", "b"),
        "mlp_out": stack("mlp/linear_2", "w"),
        "mlp_out_bias": stack("mlp/linear_2", "b"),
        "unembed": _unembedding(model, operation),
    }


def _unembedding(model: Any, operation: str) -> np.ndarray:
    """(d, outputs): the residual directions of the last operation, whose labels are `<operation>:<value>`."""
    outputs = _in_order(model.output_encoder.encoding_map)
    matrix = np.zeros((len(model.residual_labels), len(outputs)))
    for column, value in enumerate(outputs):
        matrix[model.residual_labels.index(f"{operation}:{value}"), column] = 1
    return matrix


def _sparse(dense: Mapping[str, np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
    for name, array in dense.items():
        flat = array.astype(np.float32).ravel()
        index = np.flatnonzero(flat)
        if len(index):
            yield f"{name}.index", index.astype(np.int32)
            yield f"{name}.value", flat[index]


def _cases(program: Program, model: Any, sop: Any) -> dict[str, str]:
    """Distinct inputs, and what Tracr's model answers at every position; the RASP interpreter must agree."""
    rng, cases = random.Random(0), {}
    while len(cases) < N_CASES:
        n = program.lengths[len(cases) % len(program.lengths)]
        tokens = program.draw(rng, n) if program.draw else [rng.choice(program.words) for _ in range(n)]
        prompt = " ".join(map(str, tokens))
        if prompt in cases:
            continue
        decoded = model.apply([BOS, *tokens]).decoded[1:]
        if [str(x) for x in decoded] != [str(x) for x in sop(tokens)]:
            raise SystemExit(f"{prompt}: Tracr's model says {decoded}, RASP {sop(tokens)}")
        cases[prompt] = " ".join(map(str, decoded))
    return cases


def _heads(weights: Any, words: list[str], cases: Mapping[str, str]) -> tuple[dict[plain.Head, float], list[list[int]]]:
    """How far zeroing each head moves a logit at the answer, at most; and those that say the same to all of a length."""
    n_layers, n_heads = weights["query"].shape[:2]
    heads = [(layer, head) for layer in range(n_layers) for head in range(n_heads)]
    effects, said, varying = dict.fromkeys(heads, 0.0), {}, set()
    for prompt in cases:
        ids = [words.index(BOS), *(words.index(word) for word in prompt.split())]
        z: dict[plain.Head, Any] = {}
        clean = plain.logits(weights, ids, z=z)[-1]
        for head in heads:
            moved = np.abs(plain.logits(weights, ids, [head])[-1] - clean).max()
            effects[head] = max(effects[head], round(float(moved), 6))
            first = said.setdefault((head, len(ids)), z[head])
            if np.abs(first - z[head]).max() > 1e-9:
                varying.add(head)
    return effects, [list(head) for head in heads if effects[head] and head not in varying]


def _attention_operations(graph: Any) -> int:
    """Distinct Aggregate and SelectorWidth operations of a program."""
    from tracr.rasp import rasp

    return sum(isinstance(node["EXPR"], (rasp.Aggregate, rasp.SelectorWidth)) for _, node in graph.nodes(data=True))


def _check(weights: Any, content: Mapping[str, Any]) -> None:
    """The plain loop over what was written answers as Tracr's own model does."""
    words, outputs = content["words"], content["outputs"]
    for prompt, answers in content["cases"].items():
        ids = [words.index(BOS), *(words.index(word) for word in prompt.split())]
        found = [outputs[i] for i in plain.logits(weights, ids).argmax(1)[1:]]
        if found != answers.split():
            raise SystemExit(f"{prompt}: the plain loop says {found}, Tracr {answers}")


if __name__ == "__main__":
    main()
