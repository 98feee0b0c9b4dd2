"""Which device and precision a run computes with."""

from typing import Any

from tiny_ablation.config.schema import DeviceConfig, DeviceName, DType
from tiny_ablation.errors import DeviceError


def resolve_device(cfg: DeviceConfig) -> str:
    """The torch device that `device.name` stands for here.

    Raises:
        DeviceError: it was named and is not there, or is known to give wrong results.
    """
    there = present()
    if cfg.name is DeviceName.auto:
        name = next(name for name in there if there[name] and not known_bad(name))
    else:
        name = cfg.name.value
    if not there[name]:
        have = ", ".join(device for device, is_there in there.items() if is_there)
        raise DeviceError(f"device={name}: there is no {name} device on this machine; it has {have} (device=auto chooses)")
    bad = known_bad(name)
    if bad:
        raise DeviceError(f"device={name}: {bad}")
    if name == "mps" and cfg.dtype is DType.float64:
        raise DeviceError("device.dtype=float64: mps has no double precision; use device=cpu")
    if name == "cpu" and cfg.dtype is DType.float16:
        raise DeviceError("device.dtype=float16: too slow and too narrow on a CPU; use float32, or bfloat16")
    if name == "cuda" and cfg.index is not None:
        import torch

        return f"cuda:{cfg.index % torch.cuda.device_count()}"
    return name


def present() -> dict[str, bool]:
    """Whether this machine has each kind of device, in the order in which `auto` prefers them."""
    import torch

    return {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}


def known_bad(name: str) -> str | None:
    """Why a device must not be used, where it is known to be wrong."""
    import torch

    if name == "mps" and torch.__version__.startswith("2.8."):
        return "torch 2.8 gives silently wrong results on mps (pytorch issue 161640); install another torch, or use device=cpu"
    return None


def set_up_torch(cfg: DeviceConfig) -> None:
    """Apply threads and determinism to this process."""
    import torch

    if cfg.threads is not None:
        torch.set_num_threads(cfg.threads)
    torch.use_deterministic_algorithms(cfg.deterministic, warn_only=True)
    # Filling every fresh tensor with NaN is a debugging aid that costs a pass over memory.
    setattr(torch.utils.deterministic, "fill_uninitialized_memory", False)  # noqa: B010 - untyped module attribute
    torch.backends.cuda.matmul.allow_tf32 = False  # TF32 has 10 bits of mantissa: effects would drown
    torch.backends.cudnn.allow_tf32 = False


def convert(module: Any, *, device: str, dtype: str | None = None) -> None:
    """Put a torch module on `device` and in `dtype` in place, as `from_pretrained(dtype=...)` leaves it.

    Parameters and the buffers that are stored with them take the precision; None leaves it (some architectures keep their
    routers in float32). Buffers that the model computes when it is made (`persistent=False`: the frequencies of rotary
    embeddings, ALiBi slopes) keep theirs: a frequency that is rounded to bfloat16 turns the thousandth token by an angle that
    is wrong by whole degrees.
    """
    import torch

    target = None if dtype is None else getattr(torch, dtype)
    computed = {id(part._buffers[name]) for part in module.modules() for name in part._non_persistent_buffers_set}
    for tensor in (*module.parameters(), *module.buffers()):
        follows = tensor.is_floating_point() and id(tensor) not in computed
        tensor.data = tensor.data.to(device, target if follows and target else tensor.dtype)


def describe_device(name: str) -> dict[str, Any]:
    """What computed, for the provenance."""
    import torch

    facts: dict[str, Any] = {"name": name, "threads": torch.get_num_threads(), "torch": torch.__version__}
    if name.startswith("cuda"):
        facts |= {"gpu": torch.cuda.get_device_name(name), "cuda": torch.version.cuda}
    return facts
