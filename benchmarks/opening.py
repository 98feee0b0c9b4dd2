"""How soon the page of a sweep can be read, in a headless Chromium: `python -m benchmarks.opening [REPORT.html]`.

Times are from the start of the navigation (the browser's own clock, Navigation Timing level 2): first paint, the load event,
the first and the last figure. Without a page it opens one of nine cells of 270 heads, drawn from made-up numbers of the default
model's size.
"""

import argparse
import http.server
import json
import shutil
import statistics
import subprocess
import tempfile
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.report.policy import without_policy

PROBE = """
<script>
(() => {
  const figures = document.querySelectorAll("script[data-figure]").length;
  const drawn = () => document.querySelectorAll("[data-drawn=yes]").length;
  let first = null, last = null;
  const look = () => {
    const [page] = performance.getEntriesByType("navigation");
    if (first === null && drawn()) first = performance.now();
    if (last === null && drawn() === figures) last = performance.now();
    if (last === null || !page.loadEventEnd) return setTimeout(look, 2);
    const [paint] = performance.getEntriesByType("paint");
    const found = { figures, painted: paint?.startTime ?? null, loaded: page.loadEventEnd, first, drawn: last };
    new Image().src = "http://127.0.0.1:PORT/?" + encodeURIComponent(JSON.stringify(found));
  };
  new MutationObserver(look).observe(document.body, { subtree: true, attributeFilter: ["data-drawn"] });
  addEventListener("load", () => setTimeout(look));
})();
</script>
"""
NAMES = {"painted": "first paint", "loaded": "load event", "first": "first figure", "drawn": "last figure"}


class _Told(http.server.BaseHTTPRequestHandler):
    """Keeps what the page tells; its server has `found` and `ready`."""

    server: Any

    def do_GET(self) -> None:
        self.server.found = json.loads(urllib.parse.unquote(urllib.parse.urlsplit(self.path).query))
        self.send_response(204)
        self.end_headers()
        self.server.ready.set()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


@contextmanager
def _listening() -> Iterator[Any]:
    server: Any = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Told)
    server.ready = threading.Event()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def opened(page: Path, seconds: float = 60.0) -> dict[str, float]:
    """Open a page once: milliseconds to each of `NAMES`, and how many figures it has.

    Args:
        page: a report; a copy with a probe is put beside it for the while.
        seconds: how long to wait.
    """
    chromium = next(path for name in ("chromium", "google-chrome") if (path := shutil.which(name)))
    copy = page.with_name("opening.html")
    with _listening() as server, tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        probe = PROBE.replace("PORT", str(server.server_port))
        # The probe tells a server, which the page's own policy does not let it reach.
        text = without_policy(page.read_text(encoding="utf-8"))
        copy.write_text(text.replace("</body>", f"{probe}</body>"), encoding="utf-8")
        command = [
            chromium,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            f"--user-data-dir={profile}",
            copy.as_uri(),
            "--remote-debugging-port=0",
        ]
        browser = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            if not server.ready.wait(seconds):
                raise SystemExit(f"{page} was not drawn within {seconds:g} s")
        finally:
            browser.terminate()
            browser.wait()
            copy.unlink()
        return server.found


def main() -> None:
    """Print the median of several openings."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("page", nargs="?", type=Path, help="report.html; without one a sweep of nine cells is made up")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        page = args.page or _nine_cells(Path(place))
        size = page.stat().st_size / 1e6
        found = [opened(page.resolve()) for _ in range(args.rounds)]
    print(f"{found[0]['figures']} figures, {size:.2f} MB besides plotly.js; median of {len(found)} openings, milliseconds")
    for key, name in NAMES.items():
        values = [one[key] for one in found]
        print(f"  {name:12}{statistics.median(values):7.0f}   {min(values):.0f} to {max(values):.0f}")


def _nine_cells(place: Path) -> Path:
    from tests.report.sweeps import write_sweep
    from tiny_ablation.report.sweep_page import write_sweep_report

    return write_sweep_report(write_sweep(place / "sweep"))


if __name__ == "__main__":
    main()
