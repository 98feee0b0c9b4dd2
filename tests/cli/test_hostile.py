"""Pages of runs on hostile prompts, names and labels, in a real headless Chromium: nothing of them runs, all of it is shown."""

import pytest

from tests.cli.conftest import TOY, write_rows
from tests.report.policy import without_policy
from tests.report.test_browser import CHROMIUM, chromium

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the PATH")

OWN = "document.documentElement.dataset.owned=1"
TAG = f"<img src=x onerror={OWN}>"
FORMS = (
    TAG,
    f"</script><script>{OWN}</script>",
    f"\"'><svg onload={OWN}>",
    f"</title><script>{OWN}</script>",
    "{{7*7}}",
    f"]]><script>{OWN}</script>",
    f"<a href=javascript:{OWN}>x</a>",
    "\u202e<b>",
    f"`${{{OWN}}}`",
    f"</pre><img src=x onerror={OWN}>",
)
# Lets every figure show what it says of its first point, where plotly reads a few HTML tags.
HOVER = """<script>addEventListener("load", () => setTimeout(() => {
  for (const plot of document.querySelectorAll(".js-plotly-plot"))
    try { Plotly.Fx.hover(plot, [{curveNumber: 0, pointNumber: 0}]); } catch {}
}, 500));</script>"""
SAE = (
    "sae.width=24",
    "sae.k=3",
    "sae.context=16",
    "sae.own_samples=2",
    "sae.batch=32",
    "sae.steps=12",
    "sae.tokens=320",
    "sae.held_out=128",
    "sae.corpus=text.txt",
)


def opened(page):
    """The page as Chromium has it after its scripts, with a hover over every figure; its policy left out."""
    copy = page.with_name(f"probed-{page.name}")
    text = without_policy(page.read_text(encoding="utf-8"))
    copy.write_text(text.replace("</body>", f"{HOVER}</body>"), encoding="utf-8")
    out, _ = chromium("--virtual-time-budget=10000", "--dump-dom", copy.as_uri())
    copy.unlink()
    assert "<html" in out
    return out


def test_the_browser_would_tell(tmp_path):
    for form in (TAG, FORMS[1], FORMS[2]):
        page = tmp_path / "page.html"
        page.write_text(f"<!doctype html><html><body><p>{form}</p></body></html>", encoding="utf-8")
        assert "data-owned" in opened(page)


@pytest.fixture
def rows(tmp_path):
    return write_rows(
        tmp_path / "rows.jsonl",
        *(
            {
                "id": f"{i}{form}",
                "clean": f"{form} The capital {i} of France is",
                "target": " Paris",
                "foil": " Rome",
                "corrupt": f"{form} The capital {i} of Italy is",
                "template": form,
                "group": f"{form} {i}",
                "relation": form,
                "subject": "France",
            }
            for i, form in enumerate(FORMS)
        ),
    )


def quoted(text):
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def assert_harmless(directory, *shown):
    pages = sorted(directory.rglob("*.html"))
    assert pages
    text = ""
    for page in pages:
        text += (dom := opened(page))
        assert "data-owned" not in dom, page
    for each in shown:
        assert each.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;") in text


@pytest.mark.slow
def test_a_sweep(cli, tmp_path, rows):
    done = cli(
        "-m",
        *TOY,
        "dataset=jsonl",
        rows,
        "dataset.n_examples=null",
        f"dataset.name={quoted(TAG)}",
        "seed=0,1",
        f"condition={quoted(TAG)}",
        f"+notes.mine={quoted(FORMS[9])}",
        "hydra.sweep.dir=out",
        "stats.n_boot=100",
    )
    assert done.code == 0, done.err
    assert_harmless(tmp_path / "out", TAG, FORMS[9])


@pytest.mark.slow
def test_features(cli, tmp_path, rows, monkeypatch):
    monkeypatch.setenv("TINY_ABLATE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "text.txt").write_text("".join(f"{form} France Paris {i}\n" for i in range(40) for form in FORMS))
    done = cli(*TOY, "ablation=sae_toggle", "dataset=jsonl", rows, "dataset.n_examples=null", *SAE, "hydra.run.dir=out")
    assert done.code == 0, done.err
    assert_harmless(tmp_path / "out")
