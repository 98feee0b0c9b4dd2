"""Split a corpus into train, dev and test, and keep its hash.

Writes the rows as JSONL with a field `split` to --out, and <out>.split.json beside it with the hashes of the content and of the
split. Whoever reads a corpus with such a sidecar (dataset=file dataset.path=...) is told when it was changed since.

  tiny-ablate split mine.jsonl                     60/20/20 by the hash of each prompt
  tiny-ablate split mine.jsonl --by group          no group or template in two splits
  tiny-ablate split mine.jsonl 'dataset.fields={clean: prompt}'
"""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tiny_ablation.commands._compose import compose
from tiny_ablation.commands._console import add_overrides, parser, say, say_json
from tiny_ablation.config.schema import DatasetConfig
from tiny_ablation.data import guards, splits
from tiny_ablation.data.arrow_rows import HUB
from tiny_ablation.data.corpus import content_hash, split_hash
from tiny_ablation.data.rows import read_examples, read_rows
from tiny_ablation.errors import ConfigError
from tiny_ablation.store.files import write_json, write_text


def main(args: list[str]) -> int:
    """Split one file."""
    flags = parser("split", __doc__)
    flags.add_argument("file", metavar="FILE", help="whatever dataset=file dataset.path=FILE reads")
    add_overrides(flags)
    flags.add_argument("--by", choices=("prompt", "group"), default="prompt", help="what stays together (default: prompt)")
    flags.add_argument("--out", type=Path, help="default: FILE with .split.jsonl for its suffix")
    flags.add_argument("--force", action="store_true", help="replace what stands there")
    flags.add_argument("--json", action="store_true", help="print the sidecar and the path as JSON")
    given = flags.parse_intermixed_args(args)
    # Beside a file; of a data set of the hub, here.
    beside = Path(given.file).name if given.file.startswith(HUB) else given.file
    out = given.out or Path(beside).expanduser().with_suffix(".split.jsonl")
    if out.suffix != ".jsonl":
        raise ConfigError(f"--out {out}: rows are written as JSONL, so its name must end in .jsonl")
    there = [str(path) for path in (out, splits.sidecar_path(out)) if path.exists()]
    if there and not given.force:
        raise ConfigError(f"{' and '.join(there)} would be overwritten; choose another --out, or say --force")
    cfg = compose([*given.overrides, "dataset=file"]).root.dataset
    sidecar = _split(replace(cfg, path=given.file), out, given.by)
    if given.json:
        say_json({"out": str(out), **sidecar._asdict()})
    else:
        say(
            f"{out}: " + ", ".join(f"{n} {name}" for name, n in sidecar.counts.items()) + f", by {sidecar.by}",
            f"content {sidecar.content_hash}",
            f"split   {sidecar.split_hash}",
            f"Use it: tiny-ablate dataset=file dataset.path={out} dataset.split=dev",
        )
    return 0


def _split(cfg: DatasetConfig, out: Path, by: str) -> splits.Sidecar:
    """Assign, write, and describe what was written."""
    examples = [replace(e, split="") for e in read_examples(cfg)]
    guards.check(examples, answer_in_prompt=cfg.allow_answer_in_prompt)
    names = splits.by_group(examples) if by == "group" else [splits.by_prompt(e.clean) for e in examples]
    lines = [_line(row, e.id, name, cfg) for row, e, name in zip(read_rows(cfg), examples, names, strict=True)]
    now = [replace(e, split=name) for e, name in zip(examples, names, strict=True)]
    counts = Counter(names)
    sidecar = splits.Sidecar(by, content_hash(now), split_hash(now, names), {name: counts[name] for name in splits.SHARES})
    write_text(out, "".join(lines))
    write_json(splits.sidecar_path(out), {"schema": 1, **sidecar._asdict()})
    return sidecar


def _line(row: Mapping[str, Any], row_id: str, split: str, cfg: DatasetConfig) -> str:
    """The row with its split, and with its id, which otherwise is its line and moves with the lines around it."""
    names = {ours: cfg.fields.get(ours) or ours for ours in ("id", "split")}
    known = {} if row.get(names["id"]) is not None else {names["id"]: row_id}
    # Columns that nobody reads may hold dates and the like, which JSON has not.
    return json.dumps({**row, **known, names["split"]: split}, ensure_ascii=False, default=str) + "\n"
