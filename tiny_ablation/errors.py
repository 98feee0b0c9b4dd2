"""The errors that a person may see.

Each message says what is wrong, where (config key, file, line) and what to do. `cli.main` prints it on
one line without a traceback and exits with `exit_code`. Every class takes the message alone, so that an error
survives being pickled between processes.
"""


class TinyAblateError(Exception):
    """Something that stops a run and that its user can understand."""

    exit_code = 1


class UserError(TinyAblateError):
    """The input is wrong; nothing was computed and nothing was written."""

    exit_code = 2


class ConfigError(UserError):
    """A config value is wrong, alone or beside another."""


class DataError(UserError):
    """A corpus, or a row of one, cannot be used."""


class ModelError(UserError):
    """A model cannot be found, fetched or read."""


class DeviceError(UserError):
    """The device that was asked for is not there, or is known to be wrong."""


class MissingExtraError(UserError):
    """An optional dependency is needed and not installed."""


class ResultsError(UserError):
    """A results directory or file is missing, damaged or of another run."""


class NumericsError(TinyAblateError):
    """The model gave NaN or infinity; the message names the site."""


class GuardError(TinyAblateError):
    """A check that protects the numbers failed; they must not be used."""


class Interrupted(TinyAblateError):
    """The run was stopped from outside; what was finished is kept."""

    exit_code = 130


def said(error: BaseException) -> str:
    """What a library's error says, in one line of bounded length, to be put into a message of ours."""
    text = " ".join(str(error).split())
    return (
        f"{type(error).__name__}: {text[:300]}{'...' if len(text) > 300 else ''}"
        if text
        else type(error).__name__
    )
