"""Pages in a real headless Chromium: no error, figures drawn, tables that sort and filter, narrow, dark, printed."""

import json
import re
import shutil
import subprocess

import pytest

from benchmarks.opening import opened
from tests.report.policy import with_probe
from tests.report.sweeps import write_sweep
from tiny_ablation.report.figures.of_run import write_figures
from tiny_ablation.report.run_page import write_run_report
from tiny_ablation.report.sweep_page import write_sweep_report

CHROMIUM = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the PATH")

# Runs at the end of the page, tells its frame or writes into the page what it found.
PROBE = """
<script>
addEventListener("load", () => setTimeout(() => {
  const found = {
    scripts: document.querySelectorAll("script[data-figure]").length,
    drawn: document.querySelectorAll("[data-drawn=yes]").length,
    marks: [...document.querySelectorAll(".plot")].map((p) => p.querySelectorAll("svg path, svg image, svg rect").length),
    unnamed: [...document.querySelectorAll("[role=img], img, .scroll, .table")].filter(
      (e) => !(e.getAttribute("aria-label") || e.alt)).length,
    wide: document.documentElement.scrollWidth - document.documentElement.clientWidth,
    width: document.documentElement.clientWidth,
    paper: getComputedStyle(document.body).backgroundColor,
    ink: getComputedStyle(document.querySelector(".plot .ytick text")).fill,
  };
  const table = document.querySelector("table.sortable.long");
  const values = () => [...table.tBodies[0].rows].map((r) => Number(r.cells[COLUMN].dataset.v));
  const button = table.tHead.rows[0].cells[COLUMN].querySelector("button");
  button.click();
  found.up = values();
  found.sorted = table.tHead.rows[0].cells[COLUMN].getAttribute("aria-sort");
  button.click();
  found.down = values();
  const box = document.querySelector(`[data-filters="${table.id}"]`);
  const seen = () => [...table.tBodies[0].rows].filter((r) => !r.hidden).length;
  const search = box.querySelector("input[type=search]");
  search.value = "layer 1 head 2";
  search.dispatchEvent(new Event("input"));
  found.searched = seen();
  search.value = "";
  search.dispatchEvent(new Event("input"));
  box.querySelector("input[type=checkbox]").click();
  found.only = seen();
  const told = JSON.stringify(found);
  if (parent !== window) parent.postMessage(told, "*");
  else document.body.insertAdjacentHTML("beforeend", `<pre id="probe">${told}</pre>`);
}, 500));
</script>
"""
FRAME = """<!doctype html><body style="margin:0"><iframe src="{page}" style="width:400px;height:900px;border:0"></iframe>
<script>addEventListener("message", (e) => document.body.insertAdjacentHTML("beforeend", `<pre id="probe">${{e.data}}</pre>`));
</script></body>"""


def chromium(*arguments):
    """Run Chromium without a window; returns what it printed and logged."""
    done = subprocess.run(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--enable-logging=stderr", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.stdout, done.stderr


def probe(page, column, *, narrow=False, dark=False):
    """What the probe finds in a page, and what the page said on the console."""
    copy = page.with_name("probed.html")
    text = page.read_text(encoding="utf-8")
    copy.write_text(with_probe(text, PROBE.replace("COLUMN", str(column))), encoding="utf-8")
    shown = copy
    if narrow:
        shown = page.with_name("frame.html")
        shown.write_text(FRAME.format(page=copy.name))
    flags = ["--blink-settings=preferredColorScheme=0"] if dark else []
    out, log = chromium("--virtual-time-budget=20000", *flags, "--dump-dom", shown.as_uri())
    found = re.findall(r'<pre id="probe">({.*?})</pre>', out, re.S)
    assert found, log[-2000:]
    return json.loads(found[-1].replace("&quot;", '"')), [line for line in log.splitlines() if "CONSOLE" in line]


@pytest.fixture(scope="module")
def run_page(tmp_path_factory, fake):
    table = fake.impact(6, 4)
    directory = fake.write_run(tmp_path_factory.mktemp("run") / "run", table)
    write_figures(directory, table, fake.summary(table))
    return write_run_report(directory)


@pytest.fixture(scope="module")
def sweep_page(tmp_path_factory):
    return write_sweep_report(write_sweep(tmp_path_factory.mktemp("sweep") / "sweep"))


@pytest.fixture(params=["run", "sweep"])
def page(request):
    """A page, the column to sort, how many rows the search leaves, and how many figures there are."""
    if request.param == "run":
        return request.getfixturevalue("run_page"), 3, 2, 3  # a head stands in two rows, one per scale
    return request.getfixturevalue("sweep_page"), 4, 1, 6


def test_figures_are_drawn_tables_sort_and_filter_and_nothing_is_logged(page):
    path, column, rows, figures = page
    found, console = probe(path, column)
    assert console == []
    assert (found["scripts"], found["drawn"]) == (figures, figures)
    assert min(found["marks"]) > 5
    assert found["unnamed"] == 0
    assert found["sorted"] == "ascending"
    assert found["up"] == sorted(found["up"])
    assert found["down"] == sorted(found["up"], reverse=True)
    assert found["searched"] == rows
    assert 0 < found["only"] < len(found["up"])


def test_what_got_into_a_page_unescaped_does_not_run(page):
    path, _, _, figures = page
    copy = path.with_name("attacked.html")
    own = "document.documentElement.dataset.owned=1"
    attack = f"<script>{own}</script><img src=x onerror={own}><svg onload={own}></svg><a href='javascript:{own}'>x</a>"
    copy.write_text(path.read_text(encoding="utf-8").replace("</main>", f"{attack}</main>"), encoding="utf-8")
    out, log = chromium("--virtual-time-budget=20000", "--dump-dom", copy.as_uri())
    assert "data-owned" not in out
    assert "Content Security Policy" in log
    assert out.count('data-drawn="yes"') == figures
    copy.unlink()


def test_at_400_pixels_nothing_is_wider_than_the_page(page):
    found, _ = probe(page[0], page[1], narrow=True)
    assert (found["width"], found["wide"]) == (400, 0)
    assert found["drawn"] == page[3]


def test_a_dark_page_has_light_ink_in_its_figures(page):
    light, _ = probe(page[0], page[1])
    dark, _ = probe(page[0], page[1], dark=True)
    assert light["paper"] == "rgb(255, 255, 255)"
    assert dark["paper"] == "rgb(22, 24, 28)"
    assert light["ink"] == "rgb(29, 33, 39)"
    assert dark["ink"] == "rgb(232, 234, 238)"


def test_it_prints_on_a_few_pages(page, tmp_path):
    chromium("--virtual-time-budget=20000", f"--print-to-pdf={tmp_path / 'page.pdf'}", page[0].as_uri())
    data = (tmp_path / "page.pdf").read_bytes()
    assert data.startswith(b"%PDF")
    assert 2 <= len(re.findall(rb"/Type\s*/Page\b", data)) <= 14


def test_without_plotly_the_static_figures_stay(run_page, tmp_path):
    alone = tmp_path / "report.html"
    shutil.copy(run_page, alone)
    out, _ = chromium("--virtual-time-budget=5000", "--dump-dom", alone.as_uri())
    assert 'class="live"' not in out
    assert out.count('src="data:image/png;base64,') == 3


def test_nine_cells_are_below_three_megabytes_and_drawn_whole(sweep_page):
    """How long they take to open is a matter of the machine: `python -m benchmarks.opening` measures it."""
    assert sweep_page.stat().st_size < 3_000_000
    found = opened(sweep_page)
    assert found["figures"] == 6
    assert 0 < found["painted"] <= found["drawn"]
    assert not sweep_page.with_name("opening.html").exists()
