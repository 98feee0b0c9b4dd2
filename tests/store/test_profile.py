import _thread
import mmap
import sys
import time
from types import SimpleNamespace

import pytest

from tiny_ablation.store import profile as sampler
from tiny_ablation.store.profile import Profile, Sampler


def wait_for_samples(profile, n):
    """Samples keep a distance from each other that grows with what they cost, so on a busy machine they are rare."""
    enough, deadline = profile.sampler.cost()["samples"] + n, time.monotonic() + 20
    while profile.sampler.cost()["samples"] < enough and time.monotonic() < deadline:
        time.sleep(0.02)


def test_stages_hold_time_memory_and_their_most_memory():
    profile = Profile()
    with profile.sampling():
        with profile.stage("big"):
            held = mmap.mmap(-1, 80 * 2**20)  # new pages, where an allocator may have some to hand already
            held.write(b"x" * len(held))
            time.sleep(0.5)
            wait_for_samples(profile, 2)  # the first may have begun before the memory was there
            held.close()
        with profile.stage("small"):
            time.sleep(0.05)
    big, small = profile.stages["big"], profile.stages["small"]
    assert 0.5 <= big["wall_s"] < 30
    assert big["rss_peak_bytes"] - small["rss_bytes"] > 40 * 2**20
    assert profile.content()["peak_rss_bytes"] >= big["rss_peak_bytes"] - 2**20


def test_entering_a_stage_twice_adds_up_and_rates_are_per_second():
    profile = Profile()
    for _ in range(2):
        with profile.stage("measure"):
            time.sleep(0.05)
    entry = profile.stages["measure"]
    assert entry["wall_s"] >= 0.1
    profile.count("measure", prompt_tokens=1000)
    assert entry["prompt_tokens_per_s"] == round(1000 / entry["wall_s"], 1)


def test_tokens_are_counted_by_stage():
    """What the meter says at a stage's begin is not of that stage; stages without tokens say nothing of them."""
    passed = [0]
    profile = Profile(meter=lambda: passed[0])
    for name, tokens in (("prepare", 7), ("measure", 100), ("tables", 0), ("measure", 20)):
        with profile.stage(name):
            time.sleep(0.02)
            passed[0] += tokens
    assert {name: entry.get("tokens") for name, entry in profile.stages.items()} == {
        "prepare": 7,
        "measure": 120,
        "tables": None,
    }
    entry = profile.stages["measure"]
    assert entry["tokens_per_s"] == round(120 / entry["wall_s"], 1)


def test_sampling_costs_less_than_a_hundredth(monkeypatch):
    """Even where a sample is slow: here each burns 20 ms."""

    def slow():
        def probe():
            end = time.thread_time() + 0.02
            while time.thread_time() < end:
                pass
            return {}

        return probe

    monkeypatch.setattr(sampler, "_memory_probe", slow)
    taken = Sampler()
    begin = time.perf_counter()
    taken.start()
    time.sleep(4.5)
    taken.stop()
    seconds = time.perf_counter() - begin
    cost = taken.cost()
    assert cost["samples"] >= 2
    # One sample is always taken at once; each pays for the two seconds after it.
    assert cost["cpu_s"] - 0.03 < 0.0115 * seconds


def test_the_thread_ends_with_the_run():
    before, taken = _thread._count(), Sampler()
    taken.start()
    taken.stop()
    taken.stop()
    seen = taken.cost()["samples"]
    time.sleep(0.3)
    assert _thread._count() == before
    assert taken.cost()["samples"] == seen


def test_a_run_without_memory_for_the_thread_goes_on_without_it(monkeypatch):
    def refuse(*_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(sampler._thread, "start_new_thread", refuse)
    taken = Sampler()
    taken.start()
    taken.stop()
    assert (taken.take(), taken.cost()["samples"]) == ({}, 0)


def test_a_gpu_is_measured_where_nvml_is(monkeypatch):
    nvml = SimpleNamespace(
        nvmlInit=lambda: None,
        nvmlDeviceGetCount=lambda: 2,
        nvmlDeviceGetHandleByIndex=lambda i: i,
        nvmlDeviceGetMemoryInfo=lambda h: SimpleNamespace(used=(h + 1) * 10),
        nvmlDeviceGetPowerUsage=lambda h: 50_000 + h,
    )
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    [probe] = sampler._gpu_probe()
    assert probe() == {"gpu_bytes": 30.0, "gpu_watts": 100.001}


def test_without_nvml_or_with_a_broken_one_there_is_none(monkeypatch):
    def broken():
        raise RuntimeError("driver not loaded")

    monkeypatch.setitem(sys.modules, "pynvml", SimpleNamespace(nvmlInit=broken))
    assert sampler._gpu_probe() == []
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert sampler._gpu_probe() == []


def test_power_is_off_by_default_and_its_absence_is_said(monkeypatch):
    def forbidden(*_, **__):
        raise AssertionError("nothing may be started")

    monkeypatch.setattr(sampler.subprocess, "Popen", forbidden)
    taken = Sampler()
    taken.start()
    taken.stop()
    assert taken.problem is None
    monkeypatch.setattr(sampler.sys, "platform", "linux")
    asked = Sampler(power=True)
    asked.start()
    asked.stop()
    assert asked.problem is not None
    assert "no powermetrics on this system" in asked.problem


@pytest.mark.parametrize(
    ("script", "watts"),
    [("exit 1", None), ("while :; do echo 'Combined Power (CPU + GPU + ANE): 2500 mW'; sleep 0.1; done", 2.5)],
)
def test_powermetrics_is_read_where_it_is_allowed(monkeypatch, tmp_path, script, watts):
    tool = tmp_path / "powermetrics"
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(0o755)
    monkeypatch.setattr(sampler.sys, "platform", "darwin")
    monkeypatch.setattr(sampler, "_POWERMETRICS", (str(tool),))
    taken = Sampler(power=True)
    taken.start()
    time.sleep(0.5)
    found = taken.take()
    taken.stop()
    assert found.get("watts") == watts
    assert (taken.problem is None) == (watts is not None)
    if watts is None:
        assert "needs sudo without a password" in (taken.problem or "")
