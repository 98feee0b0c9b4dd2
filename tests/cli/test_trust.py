"""A config, wherever it comes from, does not name code to run; nothing that is read is a pickle."""

import pickle
from pathlib import Path

import pytest

from tests.cli.conftest import TOY
from tests.cli.test_errors import refused

EVIL = "tests.cli.test_trust.Evil"
ran = Path("ran")


class Evil:
    """Whoever makes one, or unpickles one, leaves a file in the working directory."""

    def __init__(self, *_: object, **__: object) -> None:
        ran.touch()

    def __reduce__(self):
        return Path.touch, (ran,)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        (f"hydra.launcher._target_={EVIL}", ("hydra.launcher._target_",)),
        (f"hydra.sweeper._target_={EVIL}", ("hydra.sweeper._target_",)),
        (f"hydra.callbacks.sweep._target_={EVIL}", ("hydra.callbacks.sweep._target_", "may not name code")),
        (f"+hydra.callbacks.mine={{_target_:{EVIL}}}", ("hydra.callbacks.mine._target_",)),
        (f"+hydra.callbacks.sweep.x={{y:[{{_target_:{EVIL}}}]}}", ("hydra.callbacks.sweep.x.y.0._target_",)),
        ("+hydra.callbacks.mine={_target_:tiny_ablation.cli.main}", ("hydra.callbacks.mine._target_",)),
        ("hydra.callbacks.sweep._target_=${notes.x}", ("hydra.callbacks.sweep._target_",)),
        (f"+hydra.callbacks.mine='${{oc.create:\"{{_target_: {EVIL}}}\"}}'", ("hydra.callbacks.mine", "interpolation")),
        (f"+notes.x={{_target_:{EVIL}}}", ("notes.x._target_",)),
        (f"+notes._target_={EVIL}", ("notes._target_",)),
        (f"+dataset.fields._target_={EVIL}", ("dataset.fields._target_",)),
        (f"sweep.hypotheses={{a:{{_target_:{EVIL}}}}}", ("sweep.hypotheses.a._target_",)),
        (f"+hydra.job_logging.handlers.mine={{class:{EVIL}}}", ("hydra.job_logging.handlers.mine.class",)),
        (f"+hydra.hydra_logging.handlers.mine={{class:logging.StreamHandler,stream:ext://{EVIL}}}", ("handlers.mine.stream",)),
        ("+hydra.job.env_set.LD_PRELOAD=evil.so", ("hydra.job.env_set.LD_PRELOAD", "shell")),
        ("hydra.searchpath=[pkg://antigravity]", ("hydra.searchpath", "file://")),
    ],
)  # fmt: skip
@pytest.mark.parametrize("many", [False, True])
def test_an_override(cli, tmp_path, override, words, many):
    refused(cli(*["-m"] * many, *TOY, override), tmp_path, *words)


FILES = {
    "callback": "hydra: {callbacks: {mine: {_target_: EVIL}}}",
    "launcher": "hydra: {launcher: {_target_: EVIL}}",
    "logging": "hydra: {job_logging: {handlers: {mine: {class: EVIL}}}}",
    "factory": "hydra: {job_logging: {formatters: {mine: {(): EVIL}}}}",
    "free text": "notes: {a: [{_target_: EVIL}]}",
    "deep nesting": f"notes: {{a: {'[' * 200}{']' * 200}}}",
    "aliases of aliases": "notes: {a: &a [x, x], "
    + ", ".join(
        f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]" for a, b in zip("abcdefghijk", "bcdefghijkl", strict=True)
    )
    + "}",
    "an alias of itself": "notes: &a {a: [*a, *a]}",
    "a tag of YAML": "notes: !!python/object/apply:tests.cli.test_trust.Evil []",
}


@pytest.mark.parametrize("text", FILES.values(), ids=FILES)
@pytest.mark.parametrize("name", ["experiment", "config"])
def test_a_file_of_a_stranger(cli, tmp_path, name, text):
    """As `experiment=`, or as the root config: found through --config-dir."""
    place = tmp_path.parent / f"{tmp_path.name}-options"
    text = text.replace("EVIL", EVIL)
    if name == "experiment":
        (place / "experiment").mkdir(parents=True)
        (place / "experiment" / "theirs.yaml").write_text(f"# @package _global_\n{text}\n")
        result = cli(f"--config-dir={place}", *TOY, "experiment=theirs")
    else:
        place.mkdir()
        (place / "theirs.yaml").write_text(f"defaults: [config, _self_]\n{text}\n")
        result = cli(f"--config-dir={place}", "--config-name=theirs", *TOY)
    refused(result, tmp_path)
    assert len(result.err) < 5000


def test_a_sub_command_refuses_it_too(cli, tmp_path):
    refused(
        cli("plan", *TOY, f"+hydra.callbacks.mine={{_target_:{EVIL}}}"),
        tmp_path,
        "hydra.callbacks.mine._target_",
    )


def test_shell_lines_of_a_launcher_are_taken_from_the_command_line_alone():
    from omegaconf import OmegaConf

    from tiny_ablation.config.trust import check_config
    from tiny_ablation.errors import ConfigError

    cfg = OmegaConf.create({"hydra": {"launcher": {"setup": ["module load cuda"], "python": None}}})
    check_config(cfg, ["hydra.launcher.setup=[module load cuda]"])
    with pytest.raises(ConfigError, match=r"hydra\.launcher\.setup\.0: .* 'hydra\.launcher\.setup=\.\.\.'"):
        check_config(cfg, ["hydra.launcher.partition=gpu"])


@pytest.mark.parametrize("flag", ["--experimental-rerun", "--exp"])
def test_the_flag_that_reads_a_pickle(cli, tmp_path, flag):
    file = tmp_path.parent / f"{tmp_path.name}.pickle"
    file.write_bytes(pickle.dumps(Evil.__new__(Evil)))
    refused(cli(flag, str(file)), tmp_path, "pickle")
    refused(cli(f"{flag}={file}"), tmp_path, "pickle")


def test_what_the_tool_itself_needs_still_works(cli):
    assert cli("--cfg", "all", *TOY).code == 0
    assert (
        cli("--cfg", "hydra", *TOY, "hydra/job_logging=default", "+hydra.job.env_set.OMP_NUM_THREADS=2").code
        == 0
    )
