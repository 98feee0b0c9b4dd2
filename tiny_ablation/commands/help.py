"""List the sub-commands, or (help config) every config key.

tiny-ablate help
tiny-ablate help config      Markdown: each key with its values, default and meaning
"""

from tiny_ablation import commands
from tiny_ablation.commands._console import parser, say, say_page


def main(args: list[str]) -> int:
    """Print what each sub-command does, or the reference of config keys."""
    flags = parser("help", __doc__)
    flags.add_argument(
        "topic", nargs="?", choices=("config",), help="what to explain (default: the sub-commands)"
    )
    if flags.parse_args(args).topic == "config":
        from tiny_ablation.commands._reference import reference

        say_page(reference())
        return 0
    found = commands.summaries()
    width = max(map(len, found))
    say("tiny-ablate COMMAND --help tells more of each.", "")
    say(*(f"  {name:<{width}}  {text}" for name, text in found.items()))
    return 0
