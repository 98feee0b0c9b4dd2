"""Metrics of text, on texts that are written down here."""

import pytest

from tiny_ablation import plugins
from tiny_ablation.errors import ConfigError, NumericsError
from tiny_ablation.metrics import registry
from tiny_ablation.metrics.readout import Metric
from tiny_ablation.metrics.registry import metric, metric_names, span_of
from tiny_ablation.metrics.written import Asked, Written, of_text

ASKED = Asked("fact-1", "The capital of France is", (" Paris", " Lutetia"), (" Rome",))


def scored(name, text, *, before="", **about):
    asked = Asked(**{**vars(ASKED), **about})
    return metric(name).compute(Written([[text]], [asked]), Written([[before]], [asked])).item()


@pytest.mark.parametrize(
    ("text", "exact", "begins", "match"),
    [
        (" Paris", 1, 1, 1),
        ("\n Lutetia ", 1, 1, 1),
        (" Paris, of course", 0, 1, 1),
        (" Parisian", 0, 0, 0),
        (" the city of Paris.", 0, 0, 1),
        (" Rome", 0, 0, 0),
        ("", 0, 0, 0),
        (" paris", 0, 0, 0),
        ("Paris2", 0, 0, 0),
    ],
)
def test_answers_in_a_text(text, exact, begins, match):
    found = [scored(name, text) for name in ("text_exact", "text_begins", "text_match")]
    assert found == [exact, begins, match]


def test_an_answer_that_ends_with_no_word_needs_no_end_of_one():
    assert scored("text_begins", " $5", targets=(" $",)) == 1
    assert scored("text_begins", " a.b", targets=(" a.b",)) == 1
    assert scored("text_begins", " axb", targets=(" a.b",)) == 0  # which is no expression


@pytest.mark.parametrize(
    ("pattern", "text", "value"),
    [
        (r"\d{4}", "in 1999", 1),
        (r"\d{4}", "in 99", 0),
        (r"^ {target}$", " Lutetia", 1),
        (r"^ {target}$", " Paris.", 0),
        ("not {foil}", "not Rome", 1),
        ("(?i)PARIS", " paris", 1),
    ],
)
def test_an_expression_of_ones_own(pattern, text, value):
    assert scored("text_match", text, pattern=pattern) == value


def test_without_foils_their_name_matches_nothing():
    assert scored("text_match", "not Rome", pattern="{foil}", foils=()) == 0


def test_a_text_that_changed():
    texts, asked = Written([["a", "b"], ["a", "c"]], [ASKED, ASKED]), [ASKED, ASKED]
    base = Written([["a", "b"]], asked)
    assert metric("text_changed").compute(texts, base).tolist() == [[0, 0], [0, 1]]
    assert metric("text_changed").compute(base, base).tolist() == [[0, 0]]


def test_a_function_of_ones_own_gives_numbers_for_every_run_and_example():
    length = of_text(lambda text, asked: len(text) + (asked.id == "fact-1"))
    texts = Written([["a", "bb"], ["", "c"]], [ASKED, Asked("other", "", ("x",))])
    assert length(texts, texts).tolist() == [[2, 2], [1, 1]]
    with pytest.raises(NumericsError, match=r"inf for what was written behind other: 'c'"):
        of_text(lambda text, asked: float("inf") if text == "c" else 0)(texts, texts)


def test_names_say_the_span():
    assert {n for n in metric_names() if span_of(n) == "text"} == {"text_begins", "text_exact", "text_match", "text_changed"}
    assert all(metric(n).span == span_of(n) for n in metric_names())


def test_a_plug_in_whose_name_says_another_span_is_refused(monkeypatch):
    wrong = Metric("politeness", "", "", of_text(lambda text, asked: 1.0), span="text")
    monkeypatch.setattr(registry, "added", lambda what, own: {"politeness": wrong})
    with pytest.raises(ConfigError, match=r"politeness is of span 'text', and its name says 'first'.*text_"):
        registry.metric.__wrapped__("politeness")
    assert plugins.added is not registry.added
