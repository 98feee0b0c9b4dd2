"""The golden runs: a small run of every kind, and a small sweep, by name and command line.

`{ranking}` in an override stands for the directory of the golden run `heads_zero`, which is made first, and `{corpus}` for a
file of made-up text.
"""

import random

_FACTS = "dataset.relations=null"  # all of them
_TOY = ("model=toy", _FACTS, "dataset.n_examples=8")
# An autoencoder that is trained in a second.
_SAE = (
    "sae.corpus={corpus}",
    "sae.width=32",
    "sae.k=4",
    "sae.context=16",
    "sae.own_samples=2",
    "sae.steps=30",
    "sae.batch=32",
    "sae.tokens=640",
    "sae.held_out=256",
)
_PATCH = ("ablation=activation_patch", "ablation.unequal=skip")
_HEADS = ("ablation=heads_zero", "ablation.scales=[0.0,0.5]")

RUNS: dict[str, tuple[str, ...]] = {
    "heads_zero": (*_TOY, *_HEADS),
    "heads_zero_screen": (*_TOY, *_HEADS, "ablation.screen=attribution", "ablation.screen_top=3", "ablation.screen_random=3"),
    "heads_zero_confirm": (*_TOY, *_HEADS, "dataset.split=dev", "stats.confirm=test", "stats.confirm_examples=12"),
    "heads_zero_span_full": (*_TOY, *_HEADS, "metrics.span=full"),
    "heads_zero_folded": (*_TOY, *_HEADS, "model.weights=folded"),
    "heads_mean": (*_TOY, "ablation=heads_mean", "ablation.component=k"),
    "heads_mean_template": (*_TOY, "ablation=heads_mean_template", "dataset=ioi"),
    "heads_resample": ("model=toy", _FACTS, "dataset.n_examples=12", "ablation=heads_resample", "ablation.unmatched=skip"),
    "heads_set_zero": (*_TOY, "ablation=heads_set_zero", "ablation.sets={two: [0.1, 1.2], one: [L1H3]}", "ablation.n_random=3"),
    "heads_pair_zero": (*_TOY, "ablation=heads_pair_zero", "ablation.of=[0.1,0.2,1.3]"),
    "circuit": (*_TOY, "ablation=circuit", "ablation.from_run={ranking}", "ablation.n_random=3", "ablation.members=2"),
    "mlp_zero": (*_TOY, "ablation=mlp_zero"),
    "mlp_mean": (*_TOY, "ablation=mlp_mean", "ablation.mean=position"),
    "mlp_resample": (*_TOY, "ablation=mlp_resample", "ablation.unmatched=skip"),
    "attn_zero": (*_TOY, "ablation=attn_zero", "ablation.positions=last"),
    "attn_mean": (*_TOY, "ablation=attn_mean"),
    "attn_resample": (*_TOY, "ablation=attn_resample", "ablation.unmatched=skip"),
    "heads_optimal": (*_TOY, "ablation=heads_optimal", "ablation.layers=[1]"),
    "mlp_optimal": (*_TOY, "ablation=mlp_optimal"),
    "attn_optimal": (*_TOY, "ablation=attn_optimal"),
    "attn_knockout": (*_TOY, "ablation=attn_knockout"),
    "attn_pattern": (*_TOY, "ablation=attn_pattern"),
    "direction": (*_TOY, "ablation=direction", "ablation.n_random=3"),
    "model_diff": (*_TOY, "ablation=model_diff", "model@ablation.tuned=toy", "ablation.tuned.seed=1"),
    "heads_zero_text": (*_TOY, *_HEADS, "metrics.span=text", "generate.max_new_tokens=4"),
    "activation_patch": (*_TOY, *_PATCH, "ablation.direction=both"),
    "activation_patch_heads": (*_TOY, *_PATCH, "ablation.granularity=head_out", "ablation.positions=each"),
    "causal_trace": ("model=toy", _FACTS, "dataset.n_examples=4", "ablation=causal_trace"),
    "path_patch": (*_TOY, "ablation=path_patch"),
    "attribution": (*_TOY, "ablation=attribution"),
    "sae_train": (*_TOY, "ablation=sae_train", *_SAE),
    "sae_toggle": (
        *_TOY,
        "ablation=sae_toggle",
        *_SAE,
        "ablation.candidates=6",
        "ablation.controls=3",
        "ablation.text_tokens=256",
    ),
    "gpt2_heads_zero": (*_TOY, "model.shape=gpt2", *_HEADS),
    "gpt2_patch": (*_TOY, "model.shape=gpt2", *_PATCH),
    "neox_heads_zero": (*_TOY, "model.shape=neox", *_HEADS, "ablation.component=v"),
    "neox_mlp_mean": (*_TOY, "model.shape=neox", "ablation=mlp_mean"),
    "planted": ("model=planted", "dataset=induction_tokens", "dataset.n_examples=20", *_HEADS),
    "pair_planted": (
        "model=induction_pair",
        "dataset=induction_tokens",
        "dataset.n_examples=20",
        "ablation=heads_pair_zero",
        "ablation.of=['0.0','0.1','1.0','1.1']",
        "metrics.primary=p_drop",
    ),
    "sweep": ("-m", *_TOY, *_HEADS, "dataset=facts,negation", "seed=0,1", "hydra/launcher=basic"),
    "sweep_screened": (
        "-m",
        *_TOY,
        *_HEADS,
        "dataset=facts,ioi",
        "ablation.screen=attribution",
        "ablation.screen_top=5",
        "ablation.screen_random=3",
        "hydra/launcher=basic",
    ),
}

# Ten seconds each; `python -m tests.golden --default-model` makes and compares them as well.
DEFAULT_MODEL: dict[str, tuple[str, ...]] = {
    "smollm2_heads_zero": (
        _FACTS,
        "dataset.n_examples=8",
        "ablation=heads_zero",
        "ablation.layers=[0,23]",
        "ablation.scales=[0.0]",
    ),
    "smollm2_ioi_pairs": ("dataset=ioi", "dataset.n_examples=8", "ablation=heads_pair_zero", "ablation.of=[0.4,23.4,29.0]"),
    "smollm2_patch": (_FACTS, "dataset.n_examples=8", *_PATCH, "ablation.layers=[10,23,29]"),
}

COMMON = ("tracking=off", "stats.n_boot=200", "stats.n_perm=200", "device.threads=1", "verify=off")

# Those of the quick test suite: every kind of table, and a sweep, in seconds.
QUICK = ("heads_zero", "heads_mean", "heads_pair_zero", "activation_patch", "circuit", "sweep")


def corpus() -> str:
    """Text of forty words at random, the same in every version."""
    rng = random.Random(0)
    words = ["".join(rng.choices("aeioubcdfglmnprst", k=rng.randrange(2, 8))) for _ in range(40)]
    return "\n\n".join(" ".join(rng.choices(words, k=60)) for _ in range(60))
