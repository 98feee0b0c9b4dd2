"""Whether the prompts of a run have the tokens that the model's own tokenizer gives their text."""

from typing import Any

from tiny_ablation.run.prepare import PreparedRun

_SHOWN = 4  # tokens of a message


def prompt_faults(prepared: PreparedRun) -> list[str]:
    """What is wrong with the tokens, in words: the first example, and how many there are.

    The tokenizer is called once more, plainly, on each text. What it puts behind a text is not looked at: an answer follows.
    """
    asked = str(prepared.spec.settings.root.model.prepend_bos).lower()
    tokenizer = prepared.network.model.tokenizer
    sides = [(t.example.id, t.example.clean, t.clean_ids) for t in prepared.tokens]
    sides += [(t.example.id, t.example.corrupt, t.corrupt_ids) for t in prepared.tokens if t.corrupt_ids]
    found = []
    for name, text, ids in sides:
        again = _plainly(tokenizer, text, asked)
        if list(ids) != again[: len(ids)] or not set(again[len(ids) :]) <= set(tokenizer.all_special_ids):
            found.append((name, ids, again))
    if not found:
        return []
    name, *both = found[0]
    shown = [" ".join(map(str, tokenizer.convert_ids_to_tokens(list(each[:_SHOWN])))) for each in both]
    return [
        f"{len(found)} of {len(sides)} prompts are not tokenised as the model's tokenizer does it: example {name} begins with "
        f"{shown[0]!r}, and by the tokenizer with {shown[1]!r}"
    ]


def _plainly(tokenizer: Any, text: str, asked: str) -> list[int]:
    bare = list(tokenizer(text, add_special_tokens=False)["input_ids"])
    if asked == "false":
        return bare
    own, bos = list(tokenizer(text)["input_ids"]), tokenizer.bos_token_id
    starts = [i for i in range(len(own) - len(bare) + 1) if own[i : i + len(bare)] == bare]
    if not starts:
        return own
    before = own[: starts[-1]]
    if asked == "true" and bos not in before:
        before = [bos, *before]
    # A text that is written with its opening, as a chat template writes it, does not get it twice.
    return bare if bare[: len(before)] == before else before + bare
