"""List the sub-commands."""

from tiny_ablation import commands
from tiny_ablation.commands._console import parser, say


def main(args: list[str]) -> int:
    """Print what each sub-command does."""
    parser("help", __doc__).parse_args(args)
    found = commands.summaries()
    width = max(map(len, found))
    say("tiny-ablate COMMAND --help tells more of each.", "")
    say(*(f"  {name:<{width}}  {text}" for name, text in found.items()))
    return 0
