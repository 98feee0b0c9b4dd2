import logging
import shlex
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tiny_ablation.config.schema import TrackingBackend, TrackingConfig
from tiny_ablation.errors import Interrupted
from tiny_ablation.tracking import mlflow_sink
from tiny_ablation.tracking.mlflow_sink import default_uri, publish, ready, ui_arguments

_CHILD = (
    "import sys; from pathlib import Path\n"
    "from tiny_ablation.config.schema import TrackingConfig\n"
    "from tiny_ablation.tracking.mlflow_sink import publish\n"
    "done = publish(Path(sys.argv[1]), TrackingConfig(), cwd=Path(sys.argv[2]))\n"
    "print(done.run_id if done else None)"
)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A working directory whose store is made once; making it takes seconds."""
    return tmp_path_factory.mktemp("cwd with space")


def client(store):
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=default_uri(store))


def runs(store, experiment):
    found = client(store).get_experiment_by_name(experiment)
    return client(store).search_runs([found.experiment_id])


def test_a_run_arrives_whole(make_run, store, tmp_path, tmp_path_factory, monkeypatch):
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    done = publish(make_run(tmp_path), TrackingConfig(experiment="whole"), cwd=store)
    run = client(store).get_run(done.run_id)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "abc"
    assert run.data.params["model.name"] == "toy"
    assert run.data.metrics == {"metrics.logit_diff.mean": 0.25, "n _examples_": 16.0}
    assert run.data.tags["tiny_ablate.digest"] == "d1"
    names = {file.path for file in client(store).list_artifacts(done.run_id, "artifacts")}
    assert names == {"artifacts/heatmap.png"}
    assert (store / "mlruns").is_dir()
    tags = client(store).get_experiment_by_name("whole").tags
    assert tags["mlflow.experimentKind"] == "custom_model_development"  # the view of runs, metrics and parameters
    assert "a step is a layer" in tags["mlflow.note.content"]  # the description of the experiment
    assert not list(Path.cwd().iterdir())  # nothing beside the store


def test_the_command_shows_this_store(make_run, store, tmp_path, monkeypatch):
    done = publish(make_run(tmp_path), TrackingConfig(), cwd=store)
    uri = f"sqlite:///{store}/mlflow.db"
    assert shlex.split(done.ui_command) == ["tiny-ablate", "ui", f"tracking.uri={uri}"]
    assert ui_arguments()[-2:] == ["--host", "127.0.0.1"]  # on this machine only
    monkeypatch.chdir(store)
    assert publish(tmp_path, TrackingConfig(), cwd=store).ui_command == "tiny-ablate ui"
    assert done.url.endswith(f"#/experiments/{done.experiment_id}/runs/{done.run_id}")


def test_without_a_uri_the_store_is_the_one_that_mlflow_itself_would_use(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow.example:5000")
    assert default_uri(tmp_path) == "http://mlflow.example:5000"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    assert default_uri(tmp_path) == f"sqlite:///{tmp_path}/mlflow.db"


def test_publishing_again_changes_nothing(make_run, store, tmp_path):
    cfg = TrackingConfig(experiment="again")
    make_run(tmp_path)
    assert publish(tmp_path, cfg, cwd=store) == publish(tmp_path, cfg, cwd=store)
    (run,) = runs(store, "again")
    history = client(store).get_metric_history(run.info.run_id, "metrics.logit_diff.mean")
    assert len(history) == 1


def test_a_resumed_run_updates_its_entry(make_run, store, tmp_path):
    cfg = TrackingConfig(experiment="resumed")
    publish(make_run(tmp_path, status="partial"), cfg, cwd=store)
    assert runs(store, "resumed")[0].info.status == "KILLED"
    publish(make_run(tmp_path, value=0.5), cfg, cwd=store)
    (run,) = runs(store, "resumed")
    assert run.info.status == "FINISHED"
    assert run.data.metrics["metrics.logit_diff.mean"] == 0.5


def test_other_directories_and_digests_are_other_runs(make_run, store, tmp_path):
    cfg = TrackingConfig(experiment="others")
    for place, digest in [("it's", "d1"), ("b", "d1"), ("b", "d2")]:
        assert publish(make_run(tmp_path / place, digest=digest), cfg, cwd=store)
    assert len(runs(store, "others")) == 3


def test_more_numbers_than_one_call_takes(make_run, store, tmp_path, monkeypatch):
    monkeypatch.setattr(mlflow_sink, "_PARAMS_AT_ONCE", 2)
    monkeypatch.setattr(mlflow_sink, "_METRICS_AT_ONCE", 1)
    done = publish(make_run(tmp_path), TrackingConfig(experiment="many"), cwd=store)
    data = client(store).get_run(done.run_id).data
    assert (len(data.params), len(data.metrics)) == (3, 2)


def test_children_stand_under_their_sweep(make_run, store, tmp_path):
    cfg = TrackingConfig(experiment="sweep")
    parent = publish(make_run(tmp_path), cfg, cwd=store)
    child = publish(make_run(tmp_path / "0"), cfg, cwd=store, parent_run_id=parent.run_id)
    assert client(store).get_run(child.run_id).data.tags["mlflow.parentRunId"] == parent.run_id


def test_off_publishes_nothing(make_run, tmp_path):
    cfg = TrackingConfig(backend=TrackingBackend.off)
    assert publish(make_run(tmp_path / "run"), cfg, cwd=tmp_path) is None
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def failing(tmp_path, caplog, run, cfg):
    with caplog.at_level(logging.WARNING, logger="tiny_ablation"):
        assert publish(run, cfg, cwd=tmp_path) is None
    (found,) = [line for line in caplog.messages if line.startswith("Not published to MLflow: ")]
    assert "are complete" in found
    return found


def test_a_damaged_store_is_a_warning(make_run, tmp_path, caplog):
    (tmp_path / "mlflow.db").write_bytes(b"no sqlite at all " * 100)
    assert "not a database" in failing(tmp_path, caplog, make_run(tmp_path / "run"), TrackingConfig())


def test_a_directory_in_place_of_the_store_is_one_short_warning_at_once(make_run, tmp_path, caplog):
    """Of a sweep: it is said before the first run, and not again. MLflow would try for two minutes, and print pages."""
    (tmp_path / "mlflow.db").mkdir()
    begun = time.monotonic()
    problem = ready(TrackingConfig(), cwd=tmp_path)
    assert "mlflow.db is a directory; move it away" in problem
    assert len(problem) < 400
    with caplog.at_level(logging.WARNING, logger="tiny_ablation"):
        assert publish(make_run(tmp_path / "run"), TrackingConfig(), cwd=tmp_path) is None
    assert caplog.messages == []
    assert time.monotonic() - begun < 10


@pytest.mark.parametrize("said", ["sqlite:///kept.db?password=***", None])
def test_an_address_without_its_password_is_that_of_the_environment(tmp_path, monkeypatch, said):
    """So is one that is not said at all, as in MLflow's own commands."""
    seen = []
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///kept.db?password=secret")
    monkeypatch.setattr(mlflow_sink, "_open", lambda uri, _name: seen.append(uri))
    mlflow_sink.ready(TrackingConfig(uri=said), cwd=tmp_path)
    assert seen == ["sqlite:///kept.db?password=secret"]


def test_a_store_that_cannot_be_made_is_a_warning(make_run, tmp_path, caplog):
    cfg = TrackingConfig(uri="sqlite:////dev/null/mlflow.db")
    failing(tmp_path, caplog, make_run(tmp_path / "run"), cfg)


def test_a_server_that_is_down_is_a_warning_within_seconds(make_run, tmp_path, caplog):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    start = time.monotonic()
    cfg = TrackingConfig(uri=f"http://user:secret@127.0.0.1:{port}")
    message = failing(tmp_path, caplog, make_run(tmp_path / "run"), cfg)
    assert time.monotonic() - start < 20
    assert "refused" in message
    assert "secret" not in caplog.text
    assert "Retrying" not in caplog.text


def test_no_run_is_a_warning(tmp_path, caplog):
    assert "manifest.json is missing" in failing(tmp_path, caplog, tmp_path, TrackingConfig())


@pytest.mark.parametrize("stop", [KeyboardInterrupt, Interrupted])
def test_ctrl_c_is_not_swallowed(make_run, tmp_path, monkeypatch, stop):
    def interrupted(*args):
        raise stop

    monkeypatch.setattr(mlflow_sink, "_open", interrupted)
    with pytest.raises(stop):
        publish(make_run(tmp_path / "run"), TrackingConfig(), cwd=tmp_path)


@pytest.mark.slow
def test_four_processes_make_one_store_and_all_publish(make_run, tmp_path):
    children = [
        subprocess.Popen(
            [sys.executable, "-c", _CHILD, str(make_run(tmp_path / str(i))), str(tmp_path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(4)
    ]
    ends = [child.communicate() for child in children]
    assert [stderr for _, stderr in ends] == [""] * 4
    ids = {stdout.strip() for stdout, _ in ends}
    assert len(ids) == 4
    assert {run.info.run_id for run in runs(tmp_path, "tiny-ablate")} == ids
