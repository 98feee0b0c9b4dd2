"""The notebook of the documentation, cell by cell, on a model that is at hand; its numbers are those of the command."""

import ast
import json

import pytest

from tests.test_docs import REPOSITORY
from tiny_ablation.models.sources.toy import toy_llama
from tiny_ablation.store.reader import load_run

TOY = ("tracking=off", "device.threads=1")


def test_its_numbers_are_those_of_the_command(cli, tmp_path, monkeypatch):
    import transformers

    model, tokenizer = toy_llama()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TINY_ABLATE_CACHE", str(tmp_path / "cache"))
    for auto, ours in ((transformers.AutoModelForCausalLM, model), (transformers.AutoTokenizer, tokenizer)):
        real = auto.from_pretrained

        def given(name, *args, ours=ours, real=real, **keys):
            return ours if name == "HuggingFaceTB/SmolLM2-135M" else real(name, *args, **keys)

        monkeypatch.setattr(auto, "from_pretrained", given)
    cells = json.loads((REPOSITORY / "docs/notebook.ipynb").read_text())["cells"]
    names, shown = {"__name__": "notebook"}, []
    for cell in cells:
        if cell["cell_type"] == "code":
            body = ast.parse("".join(cell["source"])).body
            last = body.pop() if isinstance(body[-1], ast.Expr) else None
            exec(compile(ast.Module(body, []), "cell", "exec"), names)
            if isinstance(last, ast.Expr):
                shown.append(eval(compile(ast.Expression(last.value), "cell", "eval"), names))
    rows, top, matrix, figure, examples, table = shown
    assert len(rows) == 6
    assert figure._repr_png_().startswith(b"\x89PNG")
    assert set(examples["clean"]) == set(rows["clean"])
    assert table.loc[("no L0H1", "logit_diff"), "delta"] == pytest.approx(matrix.loc[0, 1], abs=0.01)
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    rows.to_json(tmp_path / "rows.jsonl", orient="records", lines=True)
    done = cli("model=local", "model.path=model", "dataset=jsonl", "dataset.path=rows.jsonl", *TOY, "hydra.run.dir=command")
    assert done.code == 0, done.err
    impact = load_run(tmp_path / "command").impact.query("metric == 'logit_diff'").set_index(["layer", "head"])
    for row in top.itertuples():
        assert row.delta == pytest.approx(impact.loc[(row.layer, row.head), "delta"], abs=5e-5)
