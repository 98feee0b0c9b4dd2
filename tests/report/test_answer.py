from tiny_ablation.report.answer import answer


def _all_unresolved(table):
    table["ci_low"], table["ci_high"] = -9.0, 9.0
    return table


def test_numbers_in_the_answer_are_those_of_the_table(fake):
    table = fake.impact()
    said = answer(table, metric="logit_diff", family_size=540)
    rows = table[(table["metric"] == "logit_diff") & (table["scale"] == 0.0)]
    top = rows.loc[rows["delta"].abs().idxmax()]
    assert said.tested == 270
    assert said.resolved == int(((rows["ci_low"] > 0) | (rows["ci_high"] < 0)).sum())
    assert said.headline == (
        f"Setting L{top['layer']}H{top['head']} to zero lowers logit_diff the most: from 3.412 to {top['value']:.3f} logits."
    )
    assert f"[{top['selected_low']:+.3f}, {top['selected_high']:+.3f}] that allows for its being chosen" in said.sentences[0]
    assert f"about {top['shrunken']:+.3f} is to be expected" in said.sentences[0]


def test_a_site_that_something_speaks_against_is_not_called_the_strongest(fake):
    table = fake.impact()
    said = answer(table, metric="logit_diff", doubt=lambda site: f"not stable at L{site['layer']}")
    sure = answer(table, metric="logit_diff")
    assert (said.firm, sure.firm) == (False, True)
    assert said.top == sure.top
    assert f"logits in this run; not stable at L{said.top['layer']}." in said.headline
    assert "the most" not in said.headline
    assert not answer(_all_unresolved(table), metric="logit_diff").firm


def test_an_interval_that_spans_zero_is_never_an_effect(fake):
    said = answer(_all_unresolved(fake.impact(4, 3)), metric="logit_diff")
    assert said.top is None
    assert said.headline == "No attention head has an effect on logit_diff that this run can tell from none."
    assert "but its interval includes 0" in said.sentences[-1]


def test_a_larger_mean_without_support_is_mentioned_and_does_not_lead(fake):
    table = fake.impact(6, 4, (0.0,))
    here = (table["metric"] == "logit_diff") & (table["layer"] == 0) & (table["head"] == 0)
    table.loc[here, ["delta", "ci_low", "ci_high"]] = [5.0, -1.0, 11.0]
    said = answer(table, metric="logit_diff")
    assert "L0H0" not in said.headline
    assert said.sentences[-1] == ("The largest mean change is at L0H0, +5.000 [-1.000, +11.000], but its interval includes 0.")


def test_what_does_not_pass_the_correction_is_not_counted(fake):
    table = fake.impact(4, 3)
    table["q_value"] = 0.2
    said = answer(table, metric="logit_diff")
    assert said.significant == 0
    assert said.top is None


def test_without_q_values_the_intervals_decide_and_the_correction_is_not_mentioned(fake):
    said = answer(fake.impact(), metric="logit_diff", use_q=False)
    assert said.significant is None
    assert said.top is not None
    assert not any("correcting" in sentence for sentence in said.sentences)


def test_without_q_values_as_many_as_chance_gives_are_no_finding(fake):
    table = _all_unresolved(fake.impact(10, 10, (0.0,)))
    lucky = (table["layer"] == 3) & (table["head"] < 5)  # 5 of 100 at 95 %
    table.loc[lucky, "ci_low"] = 0.1
    said = answer(table, metric="logit_diff", use_q=False)
    assert said.resolved == 5
    assert said.top is None


def test_components_of_layers_are_called_so(fake):
    said = answer(fake.layer_impact(), metric="logit_diff")
    assert "Of 24 components, " in said.sentences[1]


def test_how_many_chance_would_give_is_said(fake):
    assert "about 14 would by chance" in answer(fake.impact(), metric="logit_diff").sentences[1]
    assert "fewer than one would by chance" in answer(fake.impact(2, 2), metric="logit_diff", use_q=False).sentences[1]
