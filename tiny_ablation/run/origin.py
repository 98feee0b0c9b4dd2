"""Where a run's numbers come from: its config, its data, weights, code and machine, its tokens."""

from datetime import UTC, datetime

from omegaconf import OmegaConf

from tiny_ablation.config.identity import hash_json
from tiny_ablation.models.device import describe_device
from tiny_ablation.run.prepare import PreparedRun
from tiny_ablation.store import files, provenance
from tiny_ablation.store.rundir import RunDir


def write_origin(prepared: PreparedRun, rundir: RunDir, started: datetime) -> None:
    """Write `config.yaml`, `provenance.json` and `env.txt` of a run that was measured."""
    files.write_text(rundir.config, OmegaConf.to_yaml(OmegaConf.create(prepared.spec.settings.plain)))
    covers = prepared.identity.covers
    facts = describe_device(prepared.device)
    content = provenance.collect(
        hashes={
            "config": hash_json(covers["config"]),
            "data": covers["data_hash"],
            "split": covers["split_hash"],
            "weights": covers["weights"],
            **({"other_weights": covers["other_weights"]} if prepared.other else {}),
        },
        device=" ".join(str(facts[key]) for key in ("name", "gpu") if key in facts),
        started=started,
        ended=datetime.now(UTC),
        threads=facts["threads"],
    )
    network = prepared.network
    content["weights_origin"] = network.model.origin
    if prepared.other:
        content["other_weights_origin"] = prepared.other.model.origin
    content["switched_off"] = network.switched_off
    content["model_graph"] = {
        "n_layers": network.shape.n_layers,
        "n_heads": network.shape.n_heads,
        "d_model": network.shape.d_model,
        "parallel_attn_mlp": network.parallel,
    }
    content["prompts"] = [
        {"id": t.example.id, "clean": t.clean_ids, "target": t.target_ids, "foil": t.foil_ids}
        | {"text": {name: getattr(t.example, name) for name in ("clean", "corrupt", "target", "foil")}}
        | ({"targets": t.right_ids, "foils": t.wrong_ids} if t.example.has_sets else {})
        for t in prepared.tokens
    ]
    files.write_json(rundir.provenance, content)
    files.write_text(rundir.env, provenance.env_txt())
