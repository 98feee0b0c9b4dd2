"""Good files for the surfaces to be altered: a run, a sweep, a model, an autoencoder, made by the tool itself in seconds."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.fuzz.surfaces import TOY, read_all

_SMALL = (*TOY, "dataset.n_examples=6", "stats.n_boot=100", "stats.n_perm=100", "ablation.layers=[0]", "profile.power=false")
ROWS = (
    b'{"clean": "The sky is", "target": " blue", "foil": " red", "corrupt": "The rose is", "template": "The {} is"}\n'
    b'{"id": 7, "clean": "Two and two make", "target": " four", "foil": " five", "group": "sums", "split": "dev"}\n'
    b'{"clean": "Grass is", "target": " green", "foil": " red", "targets": [" green", " Green"], "foils": [" red"]}\n'
    b'{"clean": "Snow is", "target": " white", "foil": " black", "subject": "Snow", "relation": "colour"}\n'
)


def tables() -> dict[str, bytes]:
    """The rows in each format besides JSONL, by file name."""
    import io

    import pandas as pd
    import pyarrow as pa

    listed = [json.loads(line) for line in ROWS.splitlines()]
    table = pa.Table.from_pylist([{**row, "id": str(row.get("id", ""))} for row in listed])
    cells = pd.DataFrame(listed).astype(object).where(lambda t: t.notna(), None)
    for name in ("targets", "foils"):
        cells[name] = [x and json.dumps(x) for x in cells[name]]
    parquet, arrow = io.BytesIO(), io.BytesIO()
    table.to_pandas().to_parquet(parquet)
    with pa.ipc.new_stream(arrow, table.schema) as out:
        out.write_table(table)
    return {
        "rows.csv": cells.to_csv(index=False).encode(),
        "rows.tsv": cells.to_csv(sep="\t").encode(),
        "rows.json": json.dumps(listed).encode(),
        "rows.parquet": parquet.getvalue(),
        "saved/data.arrow": arrow.getvalue(),
    }


def run() -> dict[str, bytes]:
    """A finished run of the toy model."""
    return _made(_SMALL, "hydra.run.dir=out")


def sweep() -> dict[str, bytes]:
    """A finished sweep of two conditions and two seeds."""
    claim = "sweep.hypotheses={claim:{test:effect_in_all,head:'0.1',sign:negative}}"
    return _made(("-m", *_SMALL, "dataset=facts,negation", "seed=0,1", claim, "sweep.n_resamples=100"), "hydra.sweep.dir=out")


def _made(args: tuple[str, ...], where: str) -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as scratch:
        subprocess.run(
            [sys.executable, "-m", "tiny_ablation", *args, where],
            cwd=scratch,
            check=True,
            capture_output=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        return read_all(Path(scratch) / "out")


def model() -> dict[str, bytes]:
    """The toy model as a Hugging Face directory."""
    from tests.models.conftest import write_directory

    with tempfile.TemporaryDirectory() as scratch:
        return read_all(write_directory(Path(scratch) / "model"))


def gguf() -> dict[str, bytes]:
    """The toy model as a GGUF file."""
    from tests.models.conftest import write_gguf

    with tempfile.TemporaryDirectory() as scratch:
        return {"toy.gguf": write_gguf(Path(scratch) / "toy.gguf").read_bytes()}


def autoencoder() -> dict[str, bytes]:
    """A small autoencoder in SAELens' format, with a record as ours have it."""
    from sae_lens.saes.sae import SAE

    from tiny_ablation.store.files import sha256_file, write_json

    with tempfile.TemporaryDirectory() as scratch:
        cfg = {"architecture": "jumprelu", "d_in": 8, "d_sae": 12, "metadata": {"hook_name": "blocks.1.hook_out"}}
        SAE.from_dict(cfg).save_model(scratch)
        files = {path.name: sha256_file(path) for path in Path(scratch).iterdir()}
        write_json(Path(scratch) / "trained.json", {"recipe": {}, "quality": {"l0": 1.0}, "curve": [], "files": files})
        return read_all(Path(scratch))


def batches() -> dict[str, bytes]:
    """Two finished batches."""
    import numpy as np

    from tiny_ablation.config.identity import Identity
    from tiny_ablation.store.partial import PartialStore

    with tempfile.TemporaryDirectory() as scratch:
        for batch in (0, 1):
            PartialStore(Path(scratch), Identity("digest", {})).save(
                batch, {"a": np.arange(6.0).reshape(2, 3), "b": np.array([True])}
            )
        return read_all(Path(scratch))
