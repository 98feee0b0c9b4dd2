"""The content of `metrics/verify.json`, and what it means in a sentence."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tiny_ablation.engine.bare.model import Bare
from tiny_ablation.errors import Interrupted, ModelError, said, user_message
from tiny_ablation.metrics.readout import NUMERICAL_TOLERANCE
from tiny_ablation.models.placed import is_placed
from tiny_ablation.run.measure import Measured
from tiny_ablation.run.prepare import PreparedRun
from tiny_ablation.stats.ranks import spearman
from tiny_ablation.verify.locate import first_difference, trace_engine, trace_reference
from tiny_ablation.verify.plain import read_plain
from tiny_ablation.verify.slice import Slice, resolve_mode, slices
from tiny_ablation.verify.verdict import ORDER, Compared, worst

NOT_VERIFIED = "not_verified"  # the verdict where nothing could be computed again
_NAMED, _SHOWN = 2, 4  # faults, and tokens of a prompt, that a message shows


def check(prepared: PreparedRun, measured: Sequence[Measured]) -> dict[str, Any]:
    """Compute a slice of a finished run again; `measured` holds all of its arms.

    Raises:
        DeviceError: memory is short for a second copy of the weights.
        ModelError: the reference cannot take this model apart, or its files are gone.
    """
    root = prepared.spec.settings.root
    placed = any(is_placed(network.hf) for network in prepared.networks)
    plain = read_plain(prepared, resolve_mode(root.verify.mode, prepared.device, placed=placed))
    parts = slices(prepared, measured, plain.models, plain.dtype)
    names = [metric.name for metric in prepared.metrics]
    metrics = {name: _metric([part.compared[name] for part in parts]) for name in names}
    sites = [site for index, part in enumerate(parts) for site in _sites(index, part)]
    tokens = prompt_faults(prepared)
    state = [f"in the run's model {words}" for words in (*plain.other, *plain.rounded)]
    verdicts = [entry["verdict"] for entry in metrics.values()]
    verdicts += ["bug"] * bool(tokens or plain.other) + ["drift"] * bool(plain.rounded)
    effects = [part.compared[names[0]].effects for part in parts]
    correlations = [spearman(*both) for both in effects if len(both[0]) > 2]
    ties = 0  # values that differ by more than rounding where rounding may have made a router choose other experts
    for part in parts:
        off = [np.abs(c.main - c.again) > c.floor for c in part.compared.values()]
        ties += int((np.any(off, axis=0) & part.near).sum())
    found = {
        "verdict": worst(verdicts),
        "device_main": f"{prepared.device} {root.device.dtype.value}",
        "device_verify": f"cpu {plain.dtype.value}, reference",
        "n_examples": max(len(part.examples) for part in parts),
        "n_seeds": 1,
        "n_sites": len(sites),
        "n_legs": len(parts),
        "of_legs": len(measured),
        "tolerance": max(NUMERICAL_TOLERANCE[root.device.dtype], NUMERICAL_TOLERANCE[plain.dtype]),
        "max_abs_diff": max(entry["max_abs_diff"] for entry in metrics.values()),
        "rank_correlation": min((float(rho) for rho in correlations if not np.isnan(rho)), default=None),
        "sign_flips": sum(site["sign_flip"] for site in sites),
        "router_ties": ties,
        "metrics": metrics,
        "examples": parts[0].names,
        "sites": sites,
        "faults": [*tokens, *state, *_faults(parts)],
        "first_difference": None,
    }
    if found["verdict"] in ("drift", "bug"):
        found["first_difference"] = _locate(prepared, parts, plain.models, found["tolerance"])
    prepared.network.tokens += sum(model.tokens for model in plain.models.values())
    return found


def attempt(prepared: PreparedRun, measured: Sequence[Measured]) -> tuple[dict[str, Any], Exception | None]:
    """What `check` finds, and the error that kept it from finding anything.

    A model that the reference cannot take apart is no error: nothing will change that, and the verdict says so.
    """
    try:
        return check(prepared, measured), None
    except Interrupted:
        raise
    except ModelError as error:
        return {"verdict": NOT_VERIFIED, "reason": str(error)}, None
    except Exception as error:  # of libraries, on whatever model there is
        return {"verdict": NOT_VERIFIED, "reason": str(user_message(error) or said(error))}, error


def sentence(found: dict[str, Any]) -> str | None:
    """What is wrong, where, and what to do; None where nothing is."""
    if found["verdict"] in ("ok", "noise"):
        return None
    if found["verdict"] == NOT_VERIFIED:
        return f"verify: nothing was computed again, so these numbers are not verified: {found['reason']}"
    total = len(found["faults"])
    faults = "; ".join(found["faults"][:_NAMED]) + (f"; ... ({total} in all)" if total > _NAMED else "")
    return (
        f"verify: {found['verdict']}: {faults}. {found['first_difference']}. Compared were {found['n_sites']} sites on "
        f"{found['n_examples']} examples, {found['device_main']} with {found['device_verify']}. {_ADVICE[found['verdict']]}"
    )


_ADVICE = {
    "bug": "These numbers are wrong: use another device or version of torch (tiny-ablate doctor)",
    "drift": "Signs and sizes hold, small differences between sites do not; try device.dtype=float32 or another device "
    "(tiny-ablate doctor)",
}


def _metric(arms: Sequence[Compared]) -> dict[str, Any]:
    """One metric over all arms."""
    main, again, errors = (
        np.concatenate([x.ravel() for x in arrays]) for arrays in zip(*((c.main, c.again, c.errors) for c in arms), strict=True)
    )
    return {
        "main": float(main.mean()),
        "verify": float(again.mean()),
        "abs_diff": float(abs(main.mean() - again.mean())),
        "max_abs_diff": float(np.abs(errors).max()),
        "ties": int((np.abs(main - again) > np.abs(errors)).sum()),
        "factor": float(max((c.factor for c in arms), key=lambda factor: abs(factor - 1))),
        "tolerance": arms[0].floor,
        "verdict": worst([c.verdict() for c in arms]),
    }


def _sites(index: int, part: Slice) -> list[dict[str, Any]]:
    """For each site of an arm, its largest error, and its mean effect by the primary metric, both ways."""
    primary = part.compared[part.metrics[0].name]
    rows = {name: c.rows() for name, c in part.compared.items()}
    main, again = primary.effects
    out = []
    for place, row in enumerate(part.rows, start=1):
        errors = {name: float(np.abs(c.errors[place]).max()) for name, c in part.compared.items()}
        metric = max(errors, key=lambda name: errors[name])
        out.append(
            {
                **part.measured.arm.rows[row].key,
                "arm": index,
                "run": part.measured.arm.run,
                "site": part.labels[place],
                "effect_main": float(main[place - 1]),
                "effect_verify": float(again[place - 1]),
                "max_abs_diff": errors[metric],
                "metric": metric,
                "sign_flip": bool(primary.sign_flips[place - 1]),
                "verdict": worst([found[place] for found in rows.values()]),
            }
        )
    return out


def _faults(parts: Sequence[Slice]) -> list[str]:
    """What is wrong, in words: the primary metric first, then wrong signs, then by how far an effect is off in floors."""
    found = [
        (ORDER.index(c.verdict()), -place, *fault)
        for part in parts
        for place, (name, c) in enumerate(part.compared.items())
        if c.verdict() in ("drift", "bug")
        for fault in _faults_of(part, name, c)
    ]
    return [text for *_, text in sorted(found, key=lambda fault: fault[:-1], reverse=True)]


def _faults_of(part: Slice, name: str, c: Compared) -> list[tuple[bool, float, str]]:
    """(whether a sign is wrong, how far off in floors, what is wrong) of one metric that is not right."""
    if not (np.isfinite(c.main).all() and np.isfinite(c.again).all()):
        return [(True, np.inf, f"{name} is not a number")]
    main, again = c.effects
    out = []
    for i in np.flatnonzero(c.wrong_effects):
        flip = bool(c.sign_flips[i])
        what = "has the other sign" if flip else "has another size"
        both = f"{main[i]:+.4g}, computed again {again[i]:+.4g}"
        words = f"the effect of {part.labels[i + 1]} on {name} {what}: {both}"
        out.append((flip, abs(c.effect_errors[i]) / c.floor, words))
    if c.wrong_baseline:
        both = f"{c.main[0].mean():.4g}, computed again {c.again[0].mean():.4g}"
        out.append((False, abs(c.errors[0].mean()) / c.floor, f"{name} of the baseline is {both}"))
    if out:
        return out
    # No effect is wrong, but values are off: by a common factor, or one by one.
    largest = np.abs(c.errors).max()
    row, column = np.unravel_index(np.abs(c.errors).argmax(), c.errors.shape)
    common = abs(c.factor - 1) * c.typical > largest / 2
    by = f"by a common factor of {c.factor:.5f}" if common else f"by up to {largest:.1e}"
    at = f"most for {part.labels[row]}, example {part.names[column]}"
    return [(False, largest / c.floor, f"{name} is off {by}, {at}")]


def _locate(prepared: PreparedRun, parts: Sequence[Slice], models: Mapping[int, Bare], tolerance: float) -> str:
    """Where the un-intervened model first differs, on the example whose baseline is off most."""
    name = prepared.metrics[0].name
    errors = [np.abs(part.compared[name].errors[0]).max() for part in parts]
    part = parts[int(np.argmax(errors))]
    column = int(np.abs(part.compared[name].errors[0]).argmax())
    prompt = part.measured.arm.prompts[int(part.measured.examples[part.examples[column]])]
    network = part.measured.arm.network or prepared.network
    model, main = models[id(network)], trace_engine(network, prompt)
    return first_difference(model, main, trace_reference(model, prompt, main), tolerance)


def prompt_faults(prepared: PreparedRun) -> list[str]:
    """What is wrong with the tokens, in words: the first example, and how many there are.

    The tokenizer is called once more, plainly, on each text. What it puts behind a text is not looked at: an answer follows.
    """
    asked = str(prepared.spec.settings.root.model.prepend_bos).lower()
    tokenizer = prepared.network.model.tokenizer
    sides = [(t.example.id, t.example.clean, t.clean_ids) for t in prepared.tokens]
    sides += [(t.example.id, t.example.corrupt, t.corrupt_ids) for t in prepared.tokens if t.corrupt_ids]
    found = []
    for name, text, ids in sides:
        again = _plainly(tokenizer, text, asked)
        if list(ids) != again[: len(ids)] or not set(again[len(ids) :]) <= set(tokenizer.all_special_ids):
            found.append((name, ids, again))
    if not found:
        return []
    name, *both = found[0]
    shown = [" ".join(map(str, tokenizer.convert_ids_to_tokens(list(each[:_SHOWN])))) for each in both]
    return [
        f"{len(found)} of {len(sides)} prompts are not tokenised as the model's tokenizer does it: example {name} begins with "
        f"{shown[0]!r}, and by the tokenizer with {shown[1]!r}"
    ]


def _plainly(tokenizer: Any, text: str, asked: str) -> list[int]:
    bare = list(tokenizer(text, add_special_tokens=False)["input_ids"])
    if asked == "false":
        return bare
    own, bos = list(tokenizer(text)["input_ids"]), tokenizer.bos_token_id
    starts = [i for i in range(len(own) - len(bare) + 1) if own[i : i + len(bare)] == bare]
    if not starts:
        return own
    before = own[: starts[-1]]
    if asked == "true" and bos not in before:
        before = [bos, *before]
    # A text that is written with its opening, as a chat template writes it, does not get it twice.
    return bare if bare[: len(before)] == before else before + bare
