"""One independent random stream per purpose, all from the run's seed.

Reseeding a library's global state is what makes "seeds that change nothing" and "seeds that change everything"; here
every draw names its purpose, and adding a purpose does not move the draws of another.
"""

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


def derive_seed(seed: int, *labels: object) -> int:
    """A 64-bit seed for one purpose, the same on every machine."""
    text = "/".join([str(seed), *map(str, labels)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def generator(seed: int, *labels: object) -> "np.random.Generator":
    """A numpy generator for one purpose; see `derive_seed`."""
    import numpy as np

    return np.random.default_rng(derive_seed(seed, *labels))
