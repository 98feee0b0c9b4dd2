"""Hub models from a cache on this machine, and what is said when there is neither cache nor network."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import httpx2
import huggingface_hub
import pytest
from huggingface_hub import constants
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

from tiny_ablation.config.schema import ModelConfig, ModelSource
from tiny_ablation.errors import ModelError
from tiny_ablation.models import loader
from tiny_ablation.models.sources import hub

Make = Callable[[Path], Path]

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REPO = "someone/tiny"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub cache; nothing listens at the hub's address."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    return tmp_path / "hub"


@pytest.fixture
def cached(home: Path, hf_directory: Make) -> Path:
    """The toy model in the layout of the hub's cache; returns the snapshot's directory."""
    storage = home / "models--someone--tiny"
    snapshot = storage / "snapshots" / COMMIT
    hf_directory(snapshot)
    (storage / "refs").mkdir()
    (storage / "refs/main").write_text(COMMIT)
    weights = snapshot / "model.safetensors"
    blob = storage / "blobs" / hashlib.sha256(weights.read_bytes()).hexdigest()
    blob.parent.mkdir()
    weights.rename(blob)
    weights.symlink_to(blob)
    return snapshot


def config(**changes: object) -> ModelConfig:
    return ModelConfig(**{"name": "tiny", "source": ModelSource.hub, "repo": REPO, **changes})  # pyright: ignore


def no_network(*args: object, **kwargs: object) -> None:
    raise AssertionError("the hub was asked")


def hub_that_raises(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def model_info(*args: object, **kwargs: object) -> None:
        raise error

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", model_info)


def hub_error(kind: type[Exception]) -> Exception:
    request = httpx2.Request("GET", "https://hub.invalid")
    return kind("refused", response=httpx2.Response(404, request=request))  # pyright: ignore


def test_a_cached_model_is_loaded_without_asking_the_hub(cached: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", no_network)
    loaded = loader.load_model(config(), device="cpu", dtype="float32")
    assert loaded.weights_hash == hub.weights_id(config()) == f"hub:{REPO}@{COMMIT}"
    assert loaded.origin["commit"] == COMMIT
    assert hub.weights_id(config(repo=None, id=REPO)) == loaded.weights_hash
    assert loaded.origin["repo"] == REPO


def test_a_revision_that_is_not_cached_has_no_identity_yet(cached: Path) -> None:
    assert hub.weights_id(config(revision="step1000")) is None
    assert hub.weights_id(config(revision=COMMIT)) == f"hub:{REPO}@{COMMIT}"


def test_half_a_snapshot_counts_as_none(cached: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (cached / "model.safetensors").unlink()
    hub_that_raises(monkeypatch, ConnectionError("no route"))
    assert hub.weights_id(config()) is None
    with pytest.raises(ModelError, match="cannot be reached"):
        hub.prepare(config())


def test_altered_weights_in_the_cache_are_refused(cached: Path) -> None:
    blob = (cached / "model.safetensors").resolve()
    data = bytearray(blob.read_bytes())
    data[-1] ^= 1
    blob.write_bytes(data)
    with pytest.raises(ModelError, match=f"altered.*Delete {blob}"):
        hub.prepare(config())


def test_neither_cache_nor_network_is_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    hub_that_raises(monkeypatch, httpx2.ConnectError("Name or service not known"))
    with pytest.raises(ModelError, match=r"not in the Hugging Face cache.*Name or service.*HF_HOME.*model=local") as caught:
        hub.prepare(config())
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_offline_mode_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="HF_HUB_OFFLINE is set"):
        hub.prepare(config())


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (RepositoryNotFoundError, f"no public model {REPO}"),
        (GatedRepoError, "accept its terms"),
        (RevisionNotFoundError, "no revision v9"),
    ],
)
def test_what_the_hub_refuses_is_told_in_words(kind: type[Exception], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    hub_that_raises(monkeypatch, hub_error(kind))
    with pytest.raises(ModelError, match=message):
        hub.prepare(config(revision="v9"))


def answer_with(monkeypatch: pytest.MonkeyPatch, names: list[str]) -> None:
    info = SimpleNamespace(siblings=[SimpleNamespace(rfilename=name) for name in names])
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda *_args, **_kwargs: info)


def test_a_repository_of_pickles_is_refused_before_any_download(monkeypatch: pytest.MonkeyPatch) -> None:
    answer_with(monkeypatch, ["config.json", "pytorch_model.bin", "onnx/model.safetensors"])
    monkeypatch.setattr(huggingface_hub, "snapshot_download", _only_local)
    with pytest.raises(ModelError, match="no safetensors"):
        hub.prepare(config())


def _only_local(*args: object, local_files_only: bool, **kwargs: object) -> str:
    if not local_files_only:
        no_network()
    raise huggingface_hub.errors.LocalEntryNotFoundError("not there")


@pytest.mark.parametrize("trust", [False, True])
def test_a_download_takes_what_is_read_and_code_only_when_asked(
    trust: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hf_directory: Make
) -> None:
    asked: list[dict[str, object]] = []

    def snapshot_download(repo: str, **kwargs: object) -> str:
        if kwargs["local_files_only"]:
            raise huggingface_hub.errors.LocalEntryNotFoundError("not there")
        asked.append({"repo": repo, **kwargs})
        return str(hf_directory(tmp_path / COMMIT))

    answer_with(monkeypatch, ["config.json", "model.safetensors"])
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    files = hub.prepare(config(trust_remote_code=trust))
    assert files.weights_id == f"hub:{REPO}@{COMMIT}"
    patterns = asked[0]["allow_patterns"]
    assert isinstance(patterns, list)
    assert ("*.py" in patterns) is trust
    assert not any(pattern.endswith((".bin", ".pt")) for pattern in patterns)


@pytest.mark.parametrize("name", ["../../etc", "a b/c", "a/b/c"])
@pytest.mark.parametrize("key", ["repo", "id"])
def test_a_name_that_the_hub_cannot_have_names_the_key(name: str, key: str) -> None:
    with pytest.raises(ModelError, match=rf"model\.{key}={name}"):
        hub.prepare(config(**{"repo": None, key: name}))


@pytest.mark.parametrize("repo", [None, ""])
def test_the_hub_without_a_name_says_which_key(repo: str | None) -> None:
    with pytest.raises(ModelError, match=r"model=hub needs model\.id=OWNER/NAME"):
        hub.prepare(config(repo=repo))
