"""Nothing that is read runs code: a malicious pickle on every read path, and no reader of pickles in the source."""

import ast
import io
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.fuzz import surfaces
from tiny_ablation.errors import ModelError
from tiny_ablation.sae.trust import weights_only

PACKAGE = Path(__file__).resolve().parents[1] / "tiny_ablation"
ran: list[str] = []


def _run(how: str) -> None:
    ran.append(how)


class Evil:
    """Whoever unpickles one, runs code."""

    def __reduce__(self):
        return _run, ("unpickled",)


def _torch() -> bytes:
    sink = io.BytesIO()
    torch.save({"optimizer": Evil()}, sink)
    return sink.getvalue()


def _numpy() -> bytes:
    sink = io.BytesIO()
    np.savez(sink, train=np.array([Evil()], dtype=object), held_out=np.zeros(1))
    return sink.getvalue()


FORMS: dict[str, Callable[[], bytes]] = {"pickle": lambda: pickle.dumps(Evil()), "torch": _torch, "numpy": _numpy}


@pytest.fixture(params=FORMS)
def evil(request) -> bytes:
    ran.clear()
    return FORMS[request.param]()


def test_each_form_does_run_code_where_it_is_let():
    """Otherwise the tests below could not fail."""
    ran.clear()
    pickle.loads(FORMS["pickle"]())
    torch.load(io.BytesIO(_torch()), weights_only=False)
    _ = np.load(io.BytesIO(_numpy()), allow_pickle=True)["train"]
    assert ran == ["unpickled"] * 3


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["config.yaml", "manifest.json", "metrics/summary.json", "metrics/head_impact.parquet", "metrics/per_example.parquet"],
)
def test_a_run(tmp_path, evil, name):
    surfaces.run_directory(tmp_path / "run", {**surfaces.seeds("run"), name: evil})
    assert ran == []


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json"])
def test_a_model(tmp_path, evil, name):
    surfaces.model_directory(tmp_path / "model", {**surfaces.seeds("model"), name: evil})
    assert ran == []


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "adapter_model.bin", "training_args.bin"])
def test_pickles_that_lie_beside_a_model_are_left_alone(tmp_path, evil, name):
    extra = {name: evil, "adapter_config.json": b'{"peft_type": "LORA"}'}
    surfaces.model_directory(tmp_path / "model", {**surfaces.seeds("model"), **extra})
    without = {k: v for k, v in surfaces.seeds("model").items() if k != "model.safetensors"}
    surfaces.model_directory(tmp_path / "model", {**without, name: evil})
    assert ran == []


@pytest.mark.parametrize("content", [b"", b"GGUF"])
def test_a_gguf(tmp_path, evil, content):
    surfaces.gguf(tmp_path / "place", content + evil)
    assert ran == []


@pytest.mark.parametrize("name", ["sae_weights.safetensors", "cfg.json", "trained.json", "sparsity.safetensors"])
def test_an_autoencoder(tmp_path, evil, name):
    surfaces.autoencoder(tmp_path / "place", {**surfaces.seeds("autoencoder"), name: evil})
    assert ran == []


def test_a_batch(tmp_path, evil):
    surfaces.batches(tmp_path / "place", {"batch_00000.safetensors": evil})
    assert ran == []


def test_a_corpus_and_its_sidecar(tmp_path, evil):
    surfaces.corpus(tmp_path / "place", evil, evil)
    assert ran == []


@pytest.mark.parametrize("variable", ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "TORCH_FORCE_WEIGHTS_ONLY_LOAD"])
def test_a_checkpoint_of_a_training(tmp_path, evil, monkeypatch, variable):
    """SAELens reads it with `torch.load`; the environment must not be able to let it unpickle."""
    from sae_lens.constants import TRAINER_STATE_FILENAME

    from tiny_ablation.sae.training import _resume

    class Trainer:
        class sae:
            load_weights_from_checkpoint = staticmethod(lambda _path: None)

        @staticmethod
        def load_trainer_state(path):
            torch.load(path / TRAINER_STATE_FILENAME, map_location="cpu")

    monkeypatch.setenv(variable, "1")
    (tmp_path / TRAINER_STATE_FILENAME).write_bytes(evil)
    with pytest.raises(ModelError, match=r"checkpoint .* is damaged .*; delete"):
        _resume(Trainer(), tmp_path)
    assert ran == []
    with weights_only(), pytest.raises(Exception, match=r"."):
        torch.load(tmp_path / TRAINER_STATE_FILENAME)
    assert ran == []


def test_the_text_of_a_training(tmp_path, evil):
    from tiny_ablation.sae.trained import _contexts
    from tiny_ablation.store.checksummed_json import write_sealed
    from tiny_ablation.store.files import sha256_file

    (tmp_path / "contexts.npz").write_bytes(evil)
    write_sealed(tmp_path / "contexts.json", {"sha256": sha256_file(tmp_path / "contexts.npz")})
    with pytest.raises(ModelError, match=r"contexts\.npz is damaged; delete"):
        _contexts(None, tmp_path)  # pyright: ignore[reportArgumentType]
    assert ran == []


def test_no_module_reads_pickles():
    """By name: `pickle` and its kin are imported nowhere, and readers that could unpickle are told not to."""
    banned = {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in getattr(node, "names", ())] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {name.partition(".")[0] for name in names} & banned, f"{path}:{node}"
            if isinstance(node, ast.Call):
                told = {each.arg: ast.unparse(each.value) for each in node.keywords}
                called = ast.unparse(node.func)
                if called == "np.load":
                    assert told.get("allow_pickle") == "False", path
                assert called not in ("torch.load", "yaml.load", "yaml.unsafe_load", "eval", "exec"), path
