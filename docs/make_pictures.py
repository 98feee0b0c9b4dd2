"""Make the pictures of the documentation from real runs of the default model: `make pictures`.

Three runs of few examples (minutes on two cores). The picture of a page needs Chromium on the PATH.
Usage: make_pictures.py TINY_ABLATE OUT_DIR
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

RUNS = {
    "ioi": ("dataset=ioi", "dataset.n_examples=24", "ablation.scales=[0.0]"),
    "facts": ("dataset=facts", "dataset.n_examples=12", "ablation.scales=[0.0]"),
    "trace": ("ablation=causal_trace", "dataset=facts", "dataset.n_examples=6", "ablation.noise_draws=2"),
}
PICTURES = {
    "report.png": ("ioi", "report.html"),
    "head_map.png": ("facts", "artifacts/head_map.png"),
    "forest.png": ("facts", "artifacts/forest.png"),
    "trace.png": ("trace", "artifacts/trace.png"),
}
WINDOW = (900, 1476)  # pixels of a page
MOST = 200_000  # bytes


def main(tool: str, out: Path) -> None:
    """Run, and copy the static figures and a picture of the page."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        for name, overrides in RUNS.items():
            command = [tool, *overrides, "tracking=off", "verify=off", f"hydra.run.dir={place}/{name}"]
            subprocess.run(command, check=True)
        for picture, (run, file) in PICTURES.items():
            source = Path(place) / run / file
            if source.suffix == ".html":
                source = _picture(source)
            if source.stat().st_size > MOST:
                sys.exit(f"{picture} has {source.stat().st_size} bytes, more than {MOST}")
            shutil.copy(source, out / picture)


def _picture(page: Path) -> Path:
    """The first screen of a page, as people see it."""
    chromium = next((path for name in ("chromium", "google-chrome") if (path := shutil.which(name))), None)
    if chromium is None:
        sys.exit("The picture of a page needs Chromium on the PATH.")
    png = page.with_suffix(".png")
    size = ",".join(map(str, WINDOW))
    command = [
        chromium,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        "--virtual-time-budget=10000",
        f"--window-size={size}",
        f"--screenshot={png}",
        page.resolve().as_uri(),
    ]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    return png


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
