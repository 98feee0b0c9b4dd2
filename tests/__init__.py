"""Before anything imports them: the statistics are held to the types that they state."""

from beartype import BeartypeConf
from beartype.claw import beartype_package

beartype_package("tiny_ablation.stats", conf=BeartypeConf(is_pep484_tower=True))
