"""Make the pictures of the documentation from real runs of the default model: `make pictures`.

Two runs of few examples (minutes on two cores). Usage: make_pictures.py TINY_ABLATE OUT_DIR
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

RUNS = {
    "facts": ("dataset=facts", "dataset.n_examples=12", "ablation.scales=[0.0]"),
    "trace": ("ablation=causal_trace", "dataset=facts", "dataset.n_examples=4", "ablation.noise_draws=2"),
}
PICTURES = {
    "head_map.png": ("facts", "head_map.png"),
    "forest.png": ("facts", "forest.png"),
    "trace.png": ("trace", "trace.png"),
}
MOST = 150_000  # bytes


def main(tool: str, out: Path) -> None:
    """Run, and copy the static figures."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        for name, overrides in RUNS.items():
            command = [tool, *overrides, "tracking=off", "verify=off", f"hydra.run.dir={place}/{name}"]
            subprocess.run(command, check=True)
        for picture, (run, figure) in PICTURES.items():
            source = Path(place) / run / "artifacts" / figure
            if source.stat().st_size > MOST:
                sys.exit(f"{picture} has {source.stat().st_size} bytes, more than {MOST}")
            shutil.copy(source, out / picture)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
