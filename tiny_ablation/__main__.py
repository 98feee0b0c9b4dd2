"""`python -m tiny_ablation` is the same as the console script `tiny-ablate`."""

import sys

from tiny_ablation.cli import main

sys.exit(main())
