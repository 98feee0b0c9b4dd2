"""Delete what the cache holds: converted models, proofs of models, trained autoencoders, and what killed processes left.

  tiny-ablate clean                   what there is, how large it is, whether a process uses it
  tiny-ablate clean --left            only what killed processes left half-made
  tiny-ablate clean --yes             delete it
  tiny-ablate clean gpt2 sae --yes    only what has one of these words in its kind or name

Nothing is deleted without --yes, never what a process makes or uses, and never what tiny-ablate did not make. Models are
fetched and converted again, and autoencoders trained again (minutes), when a run asks for them; a model is proven again in
seconds. Runs and sweeps are not touched. The exit code is 1 when something could not be deleted.
"""

from collections.abc import Iterator, Sequence
from itertools import chain

from tiny_ablation.commands._console import parser, say, say_json, table
from tiny_ablation.data.text import printable
from tiny_ablation.paths import cache_dir
from tiny_ablation.store.cache_entries import Entry

_LEFT = ("left behind", "unfinished training")


def main(args: list[str]) -> int:
    """Show or delete."""
    flags = parser("clean", __doc__)
    flags.add_argument("words", nargs="*", metavar="WORD", help="part of a name or kind (default: everything)")
    flags.add_argument("--left", action="store_true", help="only what killed processes left")
    flags.add_argument("--yes", action="store_true", help="delete it")
    flags.add_argument("--json", action="store_true", help="print every entry and what became of it as JSON")
    given = flags.parse_args(args)
    from tiny_ablation.models import kept_proofs
    from tiny_ablation.models.sources import store
    from tiny_ablation.sae import trained

    chosen = []
    for entry in chain(store.entries(), kept_proofs.entries(), trained.entries()):
        name = f"{entry.path.parent.name}/{entry.path.name} {entry.kind}"
        if (entry.kind in _LEFT or not given.left) and (not given.words or any(word in name for word in given.words)):
            chosen.append(entry)
    sizes = [entry.size for entry in chosen]
    states = [_delete(entry) if given.yes else ("in use" if entry.in_use else "there") for entry in chosen]
    if given.json:
        say_json(
            [
                {"kind": entry.kind, "path": str(entry.path), "bytes": size, "state": state}
                for entry, size, state in zip(chosen, sizes, states, strict=True)
            ]
        )
    else:
        say(*_lines(chosen, sizes, states, yes=given.yes))
    return int(any(state.startswith("not deleted") for state in states))


def _delete(entry: Entry) -> str:
    if entry.in_use:
        return "in use"
    if found := entry.foreign:
        return f"not deleted: it holds {printable(found[0])}, which tiny-ablate did not put there"
    try:
        entry.delete()
    except OSError as error:
        return f"not deleted: {error.strerror or error}"
    return "deleted"


def _lines(chosen: Sequence[Entry], sizes: Sequence[int], states: Sequence[str], *, yes: bool) -> Iterator[str]:
    if not chosen:
        yield f"Nothing of the kind is in {cache_dir()}."
        return
    yield str(cache_dir())
    rows = [
        [entry.path.name, entry.kind, _megabytes(size), state] for entry, size, state in zip(chosen, sizes, states, strict=True)
    ]
    yield from table(rows)
    free = sum(size for size, state in zip(sizes, states, strict=True) if state in ("there", "deleted"))
    yield f"  {_megabytes(free)} {'deleted' if yes else 'would be deleted; say --yes to do it'}"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
