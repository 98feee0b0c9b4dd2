"""Write a run for other programs: its impact table as CSV, or its heads and MLPs as a graph of EAP-IG and MIB.

  tiny-ablate export outputs/mine --out mine.csv
  tiny-ablate export outputs/mine --format mib --out importances.json
  tiny-ablate export outputs/circuit --format eap-ig --size 8

csv is every row of the impact table, one a site and metric. mib and eap-ig are one format, the JSON of EAP-IG's Graph: of a run
over heads or MLPs all nodes with their scores, which is a ranking; of ablation=circuit the nodes of one circuit. Nothing is
measured.
"""

import json
from pathlib import Path

from tiny_ablation.commands._console import parser, say, say_page


def main(args: list[str]) -> int:
    """Write or print one run."""
    flags = parser("export", __doc__)
    flags.add_argument("dir", type=Path, metavar="RUN", help="the directory of a finished run")
    flags.add_argument("--format", choices=("csv", "mib", "eap-ig"), default="csv", help="default: csv")
    flags.add_argument("--out", type=Path, metavar="FILE", help="default: print it")
    flags.add_argument("--ranking", choices=("signed", "absolute"), help="of a circuit: what its heads were chosen by")
    flags.add_argument("--size", type=int, help="of a circuit: how many heads; default: the fewest that carry the behaviour")
    given = flags.parse_args(args)
    from tiny_ablation.ablations.registry import find_ablation
    from tiny_ablation.errors import ConfigError
    from tiny_ablation.report.node_graph import node_graph
    from tiny_ablation.store.files import write_text
    from tiny_ablation.store.reader import load_run
    from tiny_ablation.store.untrusted import reading

    run = load_run(given.dir)
    asked = [f"--{name}" for name in ("ranking", "size") if getattr(given, name) is not None]
    if asked and (given.format == "csv" or not find_ablation(run.summary["kind"]).has_circuits):
        raise ConfigError(f"{' and '.join(asked)} chooses a circuit, for --format mib of a run over circuits")
    with reading(given.dir):
        if given.format == "csv":
            text = run.impact.to_csv(index=False, lineterminator="\n")
        else:
            text = json.dumps(node_graph(run, ranking=given.ranking or "signed", size=given.size)) + "\n"
    if given.out:
        write_text(given.out, text)
        say(str(given.out))
    else:
        say_page(text)
    return 0
