"""Compare the golden runs with their file, or write it anew: `python -m tests.golden [--write] [--default-model] [RUN ...]`.

Exit code 1 where a number differs; what differs is written only where the result version was raised. Differences in bytes alone
(another processor, another name of a run) are listed and pass.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

from tests.golden import store
from tests.golden.fingerprint import differences
from tests.golden.runs import DEFAULT_MODEL, RUNS
from tiny_ablation.config.identity import RESULT_VERSION


def main(argv: list[str] | None = None) -> int:
    """See the module."""
    parser = argparse.ArgumentParser(prog="python -m tests.golden", description=__doc__)
    parser.add_argument("runs", nargs="*", help="names of golden runs; all where none is given")
    parser.add_argument("--write", action="store_true", help="write the results to the golden file")
    parser.add_argument(
        "--raised", action="store_true", help="the result version was raised since the last release, before the file was"
    )
    parser.add_argument("--default-model", action="store_true", help="also the runs of the default model")
    args = parser.parse_args(argv)
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    names = args.runs or [*RUNS, *(DEFAULT_MODEL if args.default_model else ())]
    version, golden = store.read() if store.PATH.exists() else (RESULT_VERSION, {})
    with tempfile.TemporaryDirectory() as directory:
        if not args.default_model:
            os.environ["TINY_ABLATE_CACHE"] = f"{directory}/cache"
        made = store.make(names, Path(directory))
    changed = False
    for name in names:
        numbers, exact = differences(golden.get(name, {}), made[name])
        changed = changed or (name in golden and bool(numbers))  # a new run changes nothing
        print(f"{name}: {len(numbers)} columns differ in numbers, {len(exact)} in bytes only")
        told = [*numbers, *(f"{where}: in bytes" for where in exact)]
        print("".join(f"  {line}\n" for line in told[:40]), end="")
    forgotten = changed and version == RESULT_VERSION and not (args.write and args.raised)
    if forgotten:
        print(
            "Numbers changed: raise RESULT_VERSION, say why in CHANGELOG.md, and run again with --write; with --raised as well "
            "if it was raised already since the last release."
        )
    elif args.write:
        store.write(RESULT_VERSION, golden | {name: made[name] for name in names})
    return int(forgotten or (changed and not args.write))


if __name__ == "__main__":
    sys.exit(main())
