"""Conversations as a chat model reads them: turns, rendered by the model's own template up to where it answers."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from tiny_ablation.data.examples import Example, Turns
from tiny_ablation.data.text import canonical
from tiny_ablation.errors import ModelError, first_line, is_out_of_memory

_DAY = datetime(2025, 1, 1)
# Templates that write today's date get this one, so that a run reads the same on every day: a macro hides the function.
_CLOCK = (
    "{% macro strftime_now(format) %}{{ format"
    + "".join(f" | replace('%{code}', '{_DAY.strftime(f'%{code}')}')" for code in "YmdBbAaHMSyj")
    + " }}{% endmacro %}"
)


class ChatError(Exception):
    """What is wrong with a conversation."""


def turns_of(value: Any) -> Turns:
    """The turns of a list of messages, `{"role": ..., "content": ...}` each.

    Raises:
        ChatError: it is no such list, or does not end where the model is to answer.
    """
    if not isinstance(value, list) or not value:
        raise ChatError("is not a list of messages")
    turns = []
    for i, message in enumerate(value):
        given = message if isinstance(message, Mapping) else {}
        role, content = given.get("role"), given.get("content")
        if not isinstance(role, str) or not isinstance(content, str) or not role or not content:
            raise ChatError(f"[{i}] has no text in role or content")
        turns.append((role, canonical(content)))
    if turns[-1][0] == "assistant":
        raise ChatError(
            "ends in a turn of the assistant; the answer stands in target, and text in front of it in dataset.answer_prefix"
        )
    return tuple(turns)


def asked(text: str, system: str = "") -> Turns:
    """A conversation of one question."""
    return ((("system", system),) if system else ()) + (("user", text),)


def written(turns: Turns) -> str:
    """What is said, without who says it."""
    return "\n".join(content for _, content in turns)


def require_template(name: str, tokenizer: Any) -> None:
    """Refuse a model that has no chat template. The ModelError names it."""
    if not getattr(tokenizer, "chat_template", None):
        raise ModelError(
            f"dataset.chat=true: the tokenizer of model {name} has no chat template; base models have none. Take an instruct "
            "model, or dataset.chat=false with prompts that the model is to continue."
        )


def rendered(example: Example, tokenizer: Any, answer_prefix: str) -> Example:
    """The example with its conversations as text, each up to where the model answers; without turns it is as it was."""
    if not example.turns:
        return example

    def text(turns: Turns) -> str:
        try:
            prompt = tokenizer.apply_chat_template(
                [{"role": role, "content": content} for role, content in turns],
                chat_template=_CLOCK + tokenizer.get_chat_template(),
                tokenize=False,
                add_generation_prompt=True,
                date_string=_DAY.strftime("%d %b %Y"),
            )
        except Exception as error:  # a template is a program of the model's own
            if is_out_of_memory(error):
                raise
            raise ChatError(f"the model's chat template refuses it: {first_line(error)}") from error
        return prompt + answer_prefix

    clean, corrupt = (text(turns) if turns else "" for turns in (example.turns, example.corrupt_turns))
    return replace(example, clean=clean, corrupt=corrupt)
