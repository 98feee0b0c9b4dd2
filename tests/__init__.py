"""Before anything imports them: the statistics are held to the types that they state.

With TINY_ABLATE_CHECK_TYPES so is the engine, shapes of tensors included.
"""

import os
from unittest.mock import patch

import jaxtyping
from beartype import BeartypeConf, beartype
from beartype.claw import beartype_package

CONF = BeartypeConf(is_pep484_tower=True)
beartype_package("tiny_ablation.stats", conf=CONF)


def checked(each):
    return beartype(each, conf=CONF)


def _unless_local(*, typechecker, checked_on_calls=jaxtyping.jaxtyped):
    """Functions within functions are left out: they are made on each call, and their checks would be, which takes longer."""
    return lambda each: each if "<locals>" in each.__qualname__ else checked_on_calls(each, typechecker=typechecker)


if os.environ.get("TINY_ABLATE_CHECK_TYPES"):
    jaxtyping.jaxtyped = _unless_local
    jaxtyping.install_import_hook("tiny_ablation.engine", "tests.checked")
    import tiny_ablation.models.network

    # `edits` starts without torch and names types that only type checkers import.
    with patch("typing.TYPE_CHECKING", True):
        import tiny_ablation.engine.edits  # noqa: F401
