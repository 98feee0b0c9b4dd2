"""A model's files as transformers reads them, with one message for whatever goes wrong there."""

import contextlib
from collections.abc import Iterator
from typing import Any

from tiny_ablation.config.schema import ModelConfig
from tiny_ablation.errors import ModelError, first_line, is_out_of_memory, panics_told
from tiny_ablation.models.sources.convert import quiet_transformers
from tiny_ablation.models.sources.files import ModelFiles
from tiny_ablation.models.sources.fit import refuse_countless


@contextlib.contextmanager
def reading(cfg: ModelConfig, files: ModelFiles, part: str = "") -> Iterator[None]:
    """Within: transformers is quiet, and what it raises becomes a `ModelError` that names the directory.

    `part` is what is read, followed by ` of `; empty for the model itself.
    """
    try:
        with quiet_transformers(), panics_told():
            yield
    except Exception as error:  # damaged or foreign files raise anything in the libraries that read them
        if isinstance(error, ModelError) or is_out_of_memory(error):
            raise
        raise ModelError(
            f"the {part}model {cfg.name} in {files.directory} cannot be read: {first_line(error)}. It must be a "
            "causal language model that the installed transformers knows, with whole safetensors files."
        ) from error


def read_tokenizer(cfg: ModelConfig, files: ModelFiles) -> Any:
    """The tokenizer of a directory."""
    from transformers import AutoTokenizer

    with reading(cfg, files, "tokenizer of "):
        return AutoTokenizer.from_pretrained(
            files.tokenizer or files.directory, local_files_only=True, trust_remote_code=cfg.trust_remote_code
        )


def read_config(cfg: ModelConfig, files: ModelFiles) -> Any:
    """The config of a directory, which asks for no more than its weights can be for."""
    from transformers import AutoConfig

    with reading(cfg, files):
        refuse_countless(cfg.name, files.directory)
        return AutoConfig.from_pretrained(files.directory, local_files_only=True, trust_remote_code=cfg.trust_remote_code)
