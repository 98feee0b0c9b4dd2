"""The command line: arguments, signals, exit codes and the text of errors; nothing else.

Exit codes: 0 done; 1 the run or a cell of a sweep failed; 2 the user's input is wrong; 130 interrupted.
"""

import _thread
import contextlib
import os
import re
import shutil
import signal
import sys
import textwrap
import threading
from collections.abc import Sequence
from typing import Any, NoReturn

from tiny_ablation.config.address import VARIABLE, hidden
from tiny_ablation.errors import ConfigError, TinyAblateError, panics_told, said, user_message
from tiny_ablation.version import __version__

_MULTIRUN = ("-m", "--multirun")
_LONGEST = 4000  # characters of a message of Hydra's, which may list every level of a config that is nested too deeply
_ENDING = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]  # a closed terminal hangs up
_BEHIND = 0.05  # seconds until an interrupt that was dropped is raised again, when it would be no more


def entry() -> NoReturn:
    """The console script: `main` as a process; signals that come after it has ended change nothing."""
    code = main()

    def leave(_signum: int, _frame: Any) -> NoReturn:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
        os._exit(code)  # worker processes end by themselves (`sweep.job.die_with_parent`)

    # Python still waits for worker processes; an interrupt meanwhile would print a traceback behind a finished run.
    for number in (signal.SIGINT, *_ENDING):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, leave)
    sys.exit(code)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    kept = os.environ.get(VARIABLE)
    args = list(hidden(sys.argv[1:] if argv is None else argv))
    asked = os.environ.get("HYDRA_FULL_ERROR")
    os.environ["HYDRA_FULL_ERROR"] = "1"  # so that errors come here instead of being printed by Hydra
    for number in _ENDING:  # otherwise worker processes outlive the parent
        if signal.getsignal(number) != signal.SIG_IGN:  # as `nohup` has it
            signal.signal(number, _interrupt)
    unraisable, sys.unraisablehook = sys.unraisablehook, _keep_interrupts
    try:
        with panics_told():
            return _dispatch(args)
    except SystemExit as stop:  # Hydra leaves this way after --help, and callbacks cannot leave in another
        if isinstance(stop.__cause__, Exception):
            return _tell(stop.__cause__, asked)
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except KeyboardInterrupt:
        print("tiny-ablate: interrupted", file=sys.stderr)  # noqa: T201
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # `--help | head`: nobody reads the rest
        return 0
    except Exception as error:
        return _tell(error, asked)
    finally:
        sys.unraisablehook = unraisable
        os.environ.pop(VARIABLE, None)  # of whoever called `main` in Python
        if kept is not None:
            os.environ[VARIABLE] = kept
        if asked is None:
            os.environ.pop("HYDRA_FULL_ERROR", None)


def _dispatch(args: list[str]) -> int:
    if args in (["--version"], ["-V"]):
        print(f"tiny-ablate {__version__}")  # noqa: T201
        return 0
    if args and re.fullmatch(r"[A-Za-z][\w-]*", args[0]):  # an override holds a =, a flag begins with a dash
        from tiny_ablation import commands

        return commands.run(args[0], args[1:])
    # Hydra wants flags before or behind all overrides, and people put -m where they think of it.
    args = [*(arg for arg in args if arg in _MULTIRUN), *(arg for arg in args if arg not in _MULTIRUN)]
    sys.argv = [sys.argv[0], *args]
    from tiny_ablation import app
    from tiny_ablation.config.trust import check_flags

    check_flags(args)
    if args and all(arg in _MULTIRUN for arg in args):
        raise ConfigError(
            f"{args[0]} runs every combination of values; say which, such as: tiny-ablate -m dataset=facts,ioi seed=0,1,2"
        )
    app.start()
    return 0


def _tell(error: Exception, asked: str | None) -> int:
    """Say what went wrong and return the exit code; with a traceback where the user set HYDRA_FULL_ERROR."""
    if asked not in (None, "", "0"):
        raise error
    from tiny_ablation.config.refusals import explain, is_refusal
    from tiny_ablation.data.text import printable  # a message may quote a stranger's file

    error = user_message(error) or error
    if isinstance(error, TinyAblateError):
        text, code = printable(str(error).strip() or type(error).__name__), error.exit_code
    elif is_refusal(error):
        text, code = printable(explain(error))[:_LONGEST], 2
    else:
        text, code = printable(f"{said(error)} (set HYDRA_FULL_ERROR=1 to see where)"), 1
    with contextlib.suppress(BrokenPipeError):  # `2>&1 | head`: the exit code still tells
        print(_for_reader(f"tiny-ablate: error: {text}"), file=sys.stderr)  # noqa: T201
    return code


def _for_reader(line: str) -> str:
    """The line as it is for a log; on a terminal broken between words, which terminals do not do by themselves."""
    if not sys.stderr.isatty():
        return line
    width = shutil.get_terminal_size().columns
    return textwrap.fill(line, width, break_long_words=False, break_on_hyphens=False)


def _interrupt(_signum: int, _frame: Any) -> NoReturn:
    raise KeyboardInterrupt


def _keep_interrupts(told: Any) -> None:
    """Python drops what is raised while it cleans up an object; an interrupt that fell there is raised again behind it."""
    if told.exc_type is KeyboardInterrupt:
        threading.Timer(_BEHIND, _thread.interrupt_main).start()
    else:
        sys.__unraisablehook__(told)
