"""Where things live: the packaged configs, and the user's cache; and what a name in a stranger's file may be."""

import os
from pathlib import Path, PurePosixPath

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


def inside(name: str) -> str:
    """`name`, if it is a relative path inside the directory of the file that names it, or else a ValueError."""
    path = PurePosixPath(name)
    if not path.parts or path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name:
        raise ValueError(f"the path {name!r}")
    return name
