"""Before anything imports them: the statistics are held to the types that they state, and in slow tests the engine as well.

Checking the engine's calls takes as long as half of what they compute on small models, which the quick tests do without.
"""

import os

from beartype import BeartypeConf
from beartype.claw import beartype_packages

ENGINE = ("tiny_ablation.engine",) if os.environ.get("TINY_ABLATE_CHECK_ENGINE") else ()
beartype_packages(("tiny_ablation.stats", *ENGINE), conf=BeartypeConf(is_pep484_tower=True))
