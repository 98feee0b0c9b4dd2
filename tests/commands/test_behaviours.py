import pytest

from tiny_ablation.data.corpus import family_names

FAMILIES = ("ioi", "sva")


@pytest.fixture
def page(cli, tmp_path):
    result = cli("behaviours", "model=toy", "--families", *FAMILIES, "--out", "docs/behaviours.md")
    assert result.code == 0, result.err
    return (tmp_path / "docs/behaviours.md").read_text()


def test_the_page_holds_what_was_measured(cli, page):
    found = cli("behaviours", "model=toy", "--families", *FAMILIES, "--json").json()
    assert [each["family"] for each in found] == list(FAMILIES)
    for each in found:
        share = each["measured"]["preference"]
        row = next(line for line in page.splitlines() if line.startswith(f"| [{each['family']}]"))
        assert f"| {each['measured']['n']} |" in row
        assert f"{share['mean']:.2f} [{share['ci_low']:.2f}, {share['ci_high']:.2f}]" in row
        assert row.endswith(f"| {each['measured']['verdict']} |")
        for template in each["measured"]["by_template"]:
            assert f"| {template['template']} | {template['n']} |" in page


def test_the_page_says_how_it_was_made_and_what_was_selected(page):
    assert "tiny-ablate behaviours model=toy --out docs/behaviours.md" in page
    assert "partly selected on the default model" in page


def test_random_weights_do_not_beat_chance_by_much(cli):
    found = cli("behaviours", "model=toy", "--families", *FAMILIES, "--json").json()
    assert all(each["measured"]["verdict"] != "well above chance" for each in found)


def test_an_unknown_family(cli):
    result = cli("behaviours", "model=toy", "--families", "poems")
    assert result.code == 2
    for name in family_names():
        assert name in result.err


@pytest.mark.slow
def test_with_texts_answers_are_not_compared(cli):
    """The command ended in an error where nothing is compared."""
    done = cli("behaviours", "model=toy", "metrics.span=text")
    assert done.code == 0, done.err
    assert "not compared (metrics.span=text)" in done.out
