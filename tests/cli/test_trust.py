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
        (f"+hydra.callbacks.mine='${{oc.create:\"{{_target_: {EVIL}}}\"}}'", ("hydra.callbacks",)),
        (f"+hydra.callbacks.mine='${{oc.decode:\"{{_target_: {EVIL}}}\"}}'", ("hydra.callbacks",)),
        (f"hydra.launcher='${{oc.decode:\"{{_target_: {EVIL}}}\"}}'", ("hydra.launcher",)),
        (f"hydra.job_logging.root='${{oc.decode:\"{{handlers: [{EVIL}]}}\"}}'", ("hydra.job_logging.root", "whole node")),
        (f"+notes.x={{_target_:{EVIL}}}", ("notes.x._target_",)),
        (f"+notes._target_={EVIL}", ("notes._target_",)),
        (f"+dataset.fields._target_={EVIL}", ("dataset.fields._target_",)),
        (f"sweep.hypotheses={{a:{{_target_:{EVIL}}}}}", ("sweep.hypotheses.a._target_",)),
        (f"+hydra.job_logging.handlers.mine={{class:{EVIL}}}", ("hydra.job_logging.handlers.mine.class",)),
        (f"+hydra.hydra_logging.handlers.mine={{class:logging.StreamHandler,stream:ext://{EVIL}}}", ("handlers.mine.stream",)),
        ("+hydra.job.env_set.LD_PRELOAD=evil.so", ("hydra.job.env_set.LD_PRELOAD", "shell")),
        ("hydra.searchpath=[pkg://antigravity]", ("hydra.searchpath", "file://")),
    ],
)
@pytest.mark.parametrize("many", [False, True])
def test_an_override(cli, tmp_path, override, words, many):
    refused(cli(*["-m"] * many, *TOY, override), tmp_path, *words)


FILES = {
    "callback": ("hydra: {callbacks: {mine: {_target_: EVIL}}}", "hydra.callbacks.mine._target_"),
    "callback, decoded": ("hydra: {callbacks: {x: \"${oc.decode:'{_target_: EVIL}'}\"}}", "hydra.callbacks.x"),
    "all callbacks, created": ("hydra: {callbacks: \"${oc.create:'{x: {_target_: EVIL}}'}\"}", "hydra.callbacks"),
    "Hydra itself, created": ("hydra: \"${oc.create:'{callbacks: {x: {_target_: EVIL}}}'}\"", "hydra"),
    "launcher": ("hydra: {launcher: {_target_: EVIL}}", "hydra.launcher._target_"),
    "launcher's shell": ("hydra: {launcher: {setup: ['touch ran']}}", "hydra.launcher.setup"),
    "launcher's interpreter": ("hydra: {launcher: {python: ./evil}}", "hydra.launcher.python"),
    "launcher's environment": ("hydra: {launcher: {ray: {init: {runtime_env: {pip: [evil]}}}}}", "runtime_env"),
    "launcher's cluster": ("hydra: {launcher: {ray: {init: {address: 'ray://evil:10001'}}}}", "ray.init.address"),
    "launcher's folder": ("hydra: {launcher: {submitit_folder: /x}}", "hydra.launcher.submitit_folder"),
    "launcher's comment": ('hydra: {launcher: {comment: "a\\ntouch ran"}}', "hydra.launcher.comment"),
    "launcher's partition": ('hydra: {launcher: {partition: "gpu\\ntouch ran"}}', "hydra.launcher.partition"),
    "launcher's partition, an option": ("hydra: {launcher: {partition: 'gpu --output=x'}}", "hydra.launcher.partition"),
    "launcher's account, an option": ("hydra: {launcher: {account: '--output=x'}}", "hydra.launcher.account"),
    "launcher's expression": ("hydra: {launcher: {pre_dispatch: '__import__(\"os\")'}}", "hydra.launcher.pre_dispatch"),
    "sweeper": ("hydra: {sweeper: {_target_: EVIL}}", "hydra.sweeper._target_"),
    "logging": ("hydra: {job_logging: {handlers: {mine: {class: EVIL}}}}", "hydra.job_logging.handlers.mine.class"),
    "logging to a file": (
        "hydra: {job_logging: {handlers: {file: {class: logging.FileHandler, filename: ~/.bashrc}}}}",
        "hydra.job_logging.handlers.file",
    ),
    "logging in a format": ("hydra: {hydra_logging: {formatters: {plain: {format: 'touch ran'}}}}", "hydra.hydra_logging"),
    "factory": ("hydra: {job_logging: {formatters: {mine: {(): EVIL}}}}", "hydra.job_logging.formatters.mine"),
    "directory": ("hydra: {run: {dir: /evil}}", "hydra.run.dir", "command line"),
    "directory, above": ("hydra: {run: {dir: ../evil}}", "hydra.run.dir", "command line"),
    "directory, referred to": ("notes: {x: /evil}\nhydra: {run: {dir: '${notes.x}'}}", "hydra.run.dir"),
    "directory, from the environment": ("hydra: {run: {dir: '${oc.env:HOME}/x'}}", "hydra.run.dir", "environment"),
    "directory, of another one": ("hydra: {run: {dir: 'x/../../evil'}}", "hydra.run.dir", "command line"),
    "sub-directory": ("hydra: {output_subdir: ../../evil}", "hydra.output_subdir"),
    "name": ("hydra: {job: {name: ../../evil}}", "hydra.job.name"),
    "working directory": ("hydra: {job: {chdir: true}}", "hydra.job.chdir"),
    "environment": ("hydra: {job: {env_set: {TINY_ABLATE_CACHE: /evil}}}", "hydra.job.env_set"),
    "environment, harmless": ("hydra: {job: {env_set: {OMP_NUM_THREADS: 1}}}", "hydra.job.env_set"),
    "environment, copied": ("hydra: {job: {env_copy: [SECRET]}}", "hydra.job.env_copy"),
    "search path": ("hydra: {searchpath: ['file:///evil']}", "hydra.searchpath"),
    "tracking server": ("tracking: {uri: 'http://evil'}", "tracking.uri"),
    "secret": ("notes: {x: '${oc.env:HOME}'}", "notes.x", "environment"),
    "secret, in a key": ("notes: {'${oc.env:HOME}': 1}", "notes", "environment"),
    "secret, in a name": ("condition: 'a${oc.env:HOME}'", "condition", "environment"),
    "secret, in a list": ("notes: {x: [1, {y: 'a ${oc.env:HOME} b'}]}", "notes.x.1.y", "environment"),
    "secret, resolver put together": ("notes: {a: env, x: '${oc.${notes.a}:HOME}'}", "notes.x", "environment"),
    "secret, within another": ("notes: {x: '${now:${oc.env:HOME}}'}", "notes.x", "environment"),
    "secret, decoded": ("notes: {x: '${oc.decode:\"${oc.env:HOME}\"}'}", "notes.x", "environment"),
    "a model's code": ("model: {trust_remote_code: true}", "model.trust_remote_code"),
    "a second model's code": ("ablation: {tuned: {trust_remote_code: true}}", "ablation.tuned.trust_remote_code"),
    "a second model's code, referred to": (
        "notes: {m: {trust_remote_code: true}}\nablation: {tuned: '${notes.m}'}",
        "notes.m.trust_remote_code",
    ),
    "a second model's code, swept": (
        "hydra: {sweeper: {params: {ablation.tuned: '{trust_remote_code: true}'}}}",
        "ablation.tuned.trust_remote_code",
    ),
    "a model, referred to": ("notes: {m: {name: x, source: hub}}\nmodel: '${notes.m}'", "model: a file may not"),
    "another run replaced": ("resume: false", "resume"),
    "power, by sudo": ("profile: {power: true}", "profile.power"),
    "swept directory": ("hydra: {mode: MULTIRUN, sweeper: {params: {hydra.run.dir: '/a,/b'}}}", "hydra.run.dir"),
    "swept code": ("hydra: {mode: MULTIRUN, sweeper: {params: {model.trust_remote_code: 'true,false'}}}", "trust_remote_code"),
    "swept dictionary": ("hydra: {sweeper: {params: {model: '{trust_remote_code: true}'}}}", "model.trust_remote_code"),
    "swept, added": ("hydra: {sweeper: {params: {+hydra.callbacks.x: '{_target_: EVIL}'}}}", "hydra.callbacks.x"),
    "swept, removed": ("hydra: {sweeper: {params: {~hydra.callbacks: null}}}", "hydra.sweeper.params.~hydra"),
    "swept, elsewhere": ("hydra: {sweeper: {params: {dataset@hydra.job_logging: 'facts,ioi'}}}", "dataset@hydra"),
    "swept, two in one": ("hydra: {sweeper: {params: {'hydra.run.dir=/evil,x': 1}}}", "hydra.run.dir"),
    "swept launcher": ("hydra: {sweeper: {params: {hydra/launcher: 'basic,local'}}}", "hydra/launcher"),
    "swept, from the environment": ("hydra: {sweeper: {params: {condition: '${oc.env:HOME}'}}}", "hydra.sweeper.params"),
    "an option at another place": ("defaults: [{'/dataset@hydra.job_logging': facts}]", "hydra.job_logging"),
    "a launcher for a callback": ("defaults: [{'/hydra/launcher@hydra.callbacks.x': basic}]", "hydra.callbacks.x._target_"),
    "its own option at another place": ("defaults: [{'/model@hydra.job.env_set': evil}]", "hydra.job.env_set.TINY"),
    "its own launcher": ("defaults: [{'override /hydra/launcher': evil}]", "hydra.launcher.setup"),
    "its own logging": ("defaults: [{'override /hydra/job_logging': evil}]", "hydra.job_logging"),
    "its own model": ("defaults: [{'override /model': theirs}]", "model.trust_remote_code"),
    "free text": ("notes: {a: [{_target_: EVIL}]}", "notes.a.0._target_"),
    "deep nesting": (f"notes: {{a: {'[' * 200}{']' * 200}}}", "nested"),
    "aliases of aliases": (
        "notes: {a: &a [x, x], "
        + ", ".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]" for a, b in zip("abcdefghijk", "bcdefghijkl", strict=True))
        + "}",
        "aliases",
    ),
    "an alias of itself": ("notes: &a {a: [*a, *a]}", "aliases"),
    "a tag of YAML": ("notes: !!python/object/apply:tests.cli.test_trust.Evil []", "ConstructorError"),
}
# What their own options say, which the files above choose.
OPTIONS = {
    "model/evil": "TINY_ABLATE_CACHE: /evil",
    "model/theirs": "name: theirs\nsource: hub\nrepo: a/b\ntrust_remote_code: true",
    "hydra/launcher/evil": "defaults: [basic]\nsetup: [touch ran]",
    "hydra/job_logging/evil": "root: {handlers: [file]}\nhandlers: {file: {class: logging.FileHandler, filename: ran}}",
}


def place_of(tmp_path, **files):
    """A directory of option files beside the working directory."""
    place = tmp_path.parent / f"{tmp_path.name}-options"
    for name, text in files.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / f"{name}.yaml").write_text(text)
    return place


@pytest.mark.parametrize(("text", "words"), [(text, words) for text, *words in FILES.values()], ids=FILES)
@pytest.mark.parametrize("name", ["experiment", "config"])
def test_a_file_of_a_stranger(cli, tmp_path, name, text, words):
    """As `experiment=`, or as the root config: found through --config-dir."""
    if name == "experiment" and "override /hydra/job_logging" in text:
        pytest.skip("the tool's own root file has the last word on these")
    text = text.replace("EVIL", EVIL)
    if name == "config":  # the defaults of a root file begin with those of the tool
        mine = "defaults: [config, _self_"
        text = text.replace("defaults: [", f"{mine}, ") if "defaults: [" in text else f"{mine}]\n{text}"
        place = place_of(tmp_path, theirs=f"{text}\n", **OPTIONS)
        result = cli(f"--config-dir={place}", "--config-name=theirs", "--cfg", "job", *TOY[1:])
    else:
        place = place_of(tmp_path, **{"experiment/theirs": f"# @package _global_\n{text}\n"}, **OPTIONS)
        result = cli(f"--config-dir={place}", "--cfg", "job", *TOY[1:], "experiment=theirs")
    refused(result, tmp_path, *words)
    assert len(result.err) < 5000


@pytest.mark.parametrize("command", [("plan",), ("plan", "-m"), ("data",)])
def test_a_sub_command_refuses_it_too(cli, tmp_path, command):
    refused(cli(*command, *TOY, f"+hydra.callbacks.mine={{_target_:{EVIL}}}"), tmp_path, "hydra.callbacks.mine._target_")


@pytest.mark.parametrize(
    "text",
    [
        "seed: 3",
        "dataset: {n_examples: 5, path: rows.jsonl}\nnotes: {a: '${model.name} ${now:%Y} \\${x}', b: {c: [1, {}]}, d: {}}",
        "hydra: {mode: MULTIRUN, sweeper: {params: {dataset: '\"facts\",ioi', seed: 'range(3)', model.weights: 'raw,folded'}}}",
        "hydra: {sweeper: {params: {metrics.names: '[logit_diff],[kl_div]', ablation: 'glob(heads_*)', seed: 1}}}",
        "defaults: [{'override /hydra/launcher': local}, {'override /tracking': 'off'}, {'override /ablation': heads_mean}]",
        "hydra: {launcher: {n_jobs: 2, timeout: null}}",
        "hydra: {run: {dir: 'outputs/${model.name}/${now:%H}'}, sweep: {dir: out, subdir: '${seed}_${hydra.job.num}'}}",
        "sweep: {hypotheses: {a: {test: effect_in_all, head: '0.1', sign: positive}}}\ntracking: {experiment: mine}",
        "model: {name: mine, source: toy, seed: 3, path: null}\nhydra: {}\nstats: {n_boot: 200}\nverify: {mode: cpu}",
    ],
)
def test_a_file_that_says_what_is_measured(cli, tmp_path, text):
    place = place_of(tmp_path, **{"experiment/ours": f"# @package _global_\n{text}\n"})
    done = cli(f"--config-dir={place}", "--cfg", "all", *TOY, "experiment=ours")
    assert done.code == 0, done.err


@pytest.mark.parametrize(("said", "class_"), [((), "BasicLauncher"), (("hydra/launcher=local",), "JoblibLauncher")])
def test_an_experiment_chooses_the_launcher_and_the_command_line_has_the_last_word(cli, tmp_path, said, class_):
    text = "# @package _global_\ndefaults: [{'override /hydra/launcher': basic}]\n"
    place = place_of(tmp_path, **{"experiment/ours": text})
    done = cli(f"--config-dir={place}", "--cfg", "hydra", *TOY, "experiment=ours", *said)
    assert f".{class_}\n" in done.out


def test_what_a_file_may_not_say_the_command_line_may(cli, tmp_path):
    given = (
        "hydra.run.dir=/x",
        "model.trust_remote_code=true",
        "tracking.uri=http://x",
        "resume=false",
        "hydra.job.name=x",
        "hydra/launcher=basic",
        "+hydra.job.env_set.OMP_NUM_THREADS=2",
        "+notes.x=${oc.env:HOME}",
    )
    assert cli("--cfg", "all", *TOY, *given).code == 0


def test_a_model_of_common_rows_is_read_as_any_other_file(cli, tmp_path):
    place = place_of(tmp_path, **OPTIONS)
    refused(cli(f"--config-dir={place}", *TOY, "dataset.common_rows=[theirs]"), tmp_path, "model.trust_remote_code")


def test_every_key_of_a_model_and_of_tracking_is_for_files_or_for_the_command_line_by_decision():
    """A new key of these must be put into one of the two lists."""
    from dataclasses import fields

    from tiny_ablation.config.file_keys import _is_allowed
    from tiny_ablation.config.schema import ModelConfig, ProfileConfig, RootConfig, TrackingConfig

    groups = {"model": ModelConfig, "tracking": TrackingConfig, "profile": ProfileConfig}
    keys = {f"{group}.{each.name}" for group, config in groups.items() for each in fields(config)}
    keys |= {
        each.name if each.name in ("seed", "condition", "resume", "experiment") else f"{each.name}.x"
        for each in fields(RootConfig)
        if each.name not in groups
    }
    assert {key for key in keys if not _is_allowed(key, "x")} == {
        "model.trust_remote_code",
        "tracking.uri",
        "profile.power",
        "resume",
        "experiment",
        "run.x",
    }


def test_lines_in_what_goes_into_the_head_of_a_shell_script_are_refused_from_anywhere():
    from omegaconf import OmegaConf

    from tiny_ablation.config.trust import check_config
    from tiny_ablation.errors import ConfigError

    launcher = {"setup": ["module load cuda"], "python": None, "partition": "gpu"}
    check_config(OmegaConf.create({"hydra": {"launcher": launcher}}))
    for key in ("comment", "partition", "qos", "name"):
        for text in ("a\ntouch ran", "a\rtouch ran", "a\u2028b"):
            with pytest.raises(ConfigError, match=rf"hydra\.launcher\.{key}=.*one line"):
                check_config(OmegaConf.create({"hydra": {"launcher": launcher | {key: text}}}))


@pytest.mark.parametrize("flag", ["--experimental-rerun", "--exp"])
def test_the_flag_that_reads_a_pickle(cli, tmp_path, flag):
    file = tmp_path.parent / f"{tmp_path.name}.pickle"
    file.write_bytes(pickle.dumps(Evil.__new__(Evil)))
    refused(cli(flag, str(file)), tmp_path, "pickle")
    refused(cli(f"{flag}={file}"), tmp_path, "pickle")


@pytest.mark.parametrize(
    "change", ["~hydra.callbacks", "~hydra.callbacks.sweep", "hydra.callbacks=null", "+hydra.callbacks.x={}"]
)
def test_the_check_before_hydra_writes_cannot_be_taken_out(cli, tmp_path, change):
    refused(cli(*TOY, change), tmp_path, "hydra.callbacks")


def test_a_root_file_that_leaves_the_tools_own_out_is_refused(cli, tmp_path):
    place = place_of(tmp_path, theirs="seed: 1\n")
    refused(cli(f"--config-dir={place}", "--config-name=theirs"), tmp_path, "hydra.callbacks")
    refused(cli(f"--config-path={place}", "--config-name=theirs"), tmp_path, "hydra.callbacks")


def test_what_the_tool_itself_needs_still_works(cli):
    assert cli("--hydra-help").code == 0
    assert cli("--cfg", "all", *TOY).code == 0
    assert cli("--cfg", "hydra", *TOY, "hydra/job_logging=default", "+hydra.job.env_set.OMP_NUM_THREADS=2").code == 0
