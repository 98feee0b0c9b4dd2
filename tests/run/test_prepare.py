"""What a run writes at most, what is refused, and what the seed draws of it."""

import pytest

from tiny_ablation.ablations.registry import run_spec
from tiny_ablation.commands._compose import compose
from tiny_ablation.errors import ConfigError
from tiny_ablation.run.prepare import prepare_run

TEXT = ("model=toy", "tracking=off", "dataset.n_examples=3", "metrics.span=text", "ablation.heads=[0]")


def prepared(*overrides, outline=False):
    return prepare_run(run_spec(compose([*TEXT, *overrides])), outline=outline)


def test_too_much_is_refused_with_what_it_would_be():
    with pytest.raises(ConfigError) as error:
        prepared("generate.max_total=95")
    assert "may write 96 tokens (2 interventions on 3 examples, up to 16 tokens each)" in str(error.value)
    assert "generate.max_total=95" in str(error.value)
    assert prepared("generate.max_total=95", outline=True).decoding.max_new_tokens == 16
    assert prepared("generate.max_total=96").decoding.temperature == 0


def test_more_than_the_model_was_made_for_is_refused():
    with pytest.raises(ConfigError, match=r"generate.max_new_tokens=512: .* made for \d+ in all; write at most \d+"):
        prepared("generate.max_new_tokens=512")


@pytest.mark.slow
def test_the_seed_draws_the_sampled_tokens_of_each_example():
    runs = [prepared("generate.temperature=1", f"seed={seed}", "dataset.n_examples=null") for seed in (0, 0, 1)]
    seeds = [run.decoding.seeds for run in runs]
    assert seeds[0] == seeds[1] != seeds[2]
    assert len(set(seeds[0])) == len(seeds[0])
    assert "sampled tokens" in runs[0].spec.seed_effect
    assert "sampled tokens" not in prepared().spec.seed_effect


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["ablation=attribution"], "ablation=attribution compares"),
        (["ablation.screen=attribution"], "ablation=heads_zero with ablation.screen compares"),
        (["ablation=activation_patch"], "ablation=activation_patch compares"),
        (["ablation=heads_mean", "ablation.mean=position"], "metrics.span=full and text also touch"),
        (["metrics.names=[logit_diff]"], "logit_diff is not defined for metrics.span=text"),
        (["metrics.span=first", "generate.temperature=1", "generate.stop=[a]"], "generate.temperature, generate.stop is set"),
        (["generate.pattern='('"], "generate.pattern=.*no regular expression"),
        (["generate.stop=['']"], "the empty text"),
        (["generate.max_new_tokens=0"], "generate.max_new_tokens=0: it must be at least 1"),
    ],
)
def test_what_cannot_be_written_is_refused(overrides, said):
    base = [o for o in TEXT if not (o.startswith("ablation.heads") and any("ablation=a" in o for o in overrides))]
    with pytest.raises(ConfigError, match=said):
        prepare_run(run_spec(compose([*base, *overrides])))
