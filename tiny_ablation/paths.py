"""Where things live: the packaged configs, and the user's cache."""

import os
from pathlib import Path

_HERE = Path(__file__).resolve().parent


def conf_dir() -> Path:
    """The config directory: inside the package in a wheel, at the top of the tree in a checkout."""
    packaged, checkout = _HERE / "conf", _HERE.parent / "conf"
    return packaged if packaged.is_dir() else checkout


def cache_dir() -> Path:
    """The per-user cache for converted models; `TINY_ABLATE_CACHE` overrides the platform's default."""
    override = os.environ.get("TINY_ABLATE_CACHE")
    if override:
        return Path(override).expanduser().resolve()
    import platformdirs

    return Path(platformdirs.user_cache_dir("tiny-ablate"))
