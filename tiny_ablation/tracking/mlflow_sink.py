"""Publish a finished run to MLflow, all at once: no run waits for a tracker, or fails because of one.

Costs about two seconds, most of it the import of MLflow. Publishing a run directory again updates its entry.
Several processes may publish at once: MLflow cannot create one sqlite store from two processes, so a file
lock guards that.
"""

import logging
import os
import re
import shlex
import time
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tiny_ablation.config.address import masked, whole
from tiny_ablation.errors import Interrupted, ResultsError, first_line
from tiny_ablation.store.sweepdir import SweepDir, read_plan
from tiny_ablation.tracking.record import Record, read_record

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from tiny_ablation.config.schema import TrackingConfig

logger = logging.getLogger(__name__)

_STATUS = {"ok": "FINISHED", "partial": "KILLED", "failed": "FAILED"}
_SQLITE = "sqlite:///"
_TAGS = {
    # MLflow's page opens on its view of runs and their metrics, not on that of conversations with models.
    "mlflow.experimentKind": "custom_model_development",
    "mlflow.note.content": "Runs and sweeps of tiny-ablate. `baseline.*` is the model without any intervention; `effect.L23H4` "
    "is the change caused by intervening on that site, given for the strongest sites; in `layer.*` a step is a layer. The "
    "artifact `report.html` shows the run on one page; the tag `tiny_ablate.run_dir` says where all its files are.",
}
# What MLflow takes in one call; together at most 1000.
_PARAMS_AT_ONCE, _METRICS_AT_ONCE, _PARAM_LENGTH = 100, 800, 6000
_LOCK_SECONDS = 120
_HALF = 200  # characters of either end of a message of MLflow's, which may be pages
_told: set[str] = set()  # what has kept a sweep from publishing and was said before it began
_PATIENCE = 120.0  # seconds for the entry of one run: no run waits longer for a server that is slow
# Set before MLflow is imported, unless the user has set them: it reports usage otherwise, and tries a server
# that is down for minutes.
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}


@dataclass(frozen=True)
class Published:
    """Where a run went; the ids are MLflow's."""

    run_id: str
    experiment_id: str
    ui_command: str | None  # shows the run, on this machine only; None for a server
    url: str  # the page of the run, once `ui_command` runs if there is one


def publish(run_dir: Path, cfg: "TrackingConfig", *, cwd: Path, parent_run_id: str | None = None) -> Published | None:
    """Publish the finished run in `run_dir`, or update what was published of it.

    Args:
        run_dir: a run directory with its manifest.
        cfg: the config group `tracking`.
        cwd: the directory the command was started from, where the default store is.
        parent_run_id: MLflow's id of the run to list this one under, such as its sweep.

    Returns:
        Where it went; None when tracking is off, or failed, which is logged as a warning and never raised.
    """
    if cfg.backend.value == "off":
        return None
    try:
        record, uri, begun = read_record(run_dir), _address(cfg, cwd), time.monotonic()
        client, experiment_id = _open(uri, cfg.experiment)
        run_id, known = _find_or_create(client, experiment_id, record, parent_run_id)
        _log_numbers(client, run_id, record, known)
        for name in record.files:
            if time.monotonic() - begun > _PATIENCE:
                raise TimeoutError(f"it took more than {_PATIENCE:.0f} s, so its entry there lacks files")
            folder = Path(name).parent.as_posix()
            client.log_artifact(run_id, str(run_dir / name), None if folder == "." else folder)
        client.set_terminated(run_id, _STATUS[record.status], record.ended_ms)
        return _published(uri, experiment_id, run_id)
    except Interrupted:
        raise
    except Exception as error:
        why = _reason(error, _address(cfg, cwd))
        if why not in _told:
            logger.warning("Not published to MLflow: %s The results in %s are complete.", why, run_dir)
        return None


def publish_sweep(sweep_dir: Path, cfg: "TrackingConfig", *, cwd: Path) -> Published | None:
    """Publish a sweep as one run, with the finished runs of its cells under it; arguments and result as in `publish`."""
    parent = publish(sweep_dir, cfg, cwd=cwd)
    sweep = SweepDir(sweep_dir)
    for cell in read_plan(sweep_dir).cells if parent else ():
        if sweep.run(cell).config.is_file():  # a run that failed before it began has nothing to publish
            publish(sweep.run(cell).path, cfg, cwd=cwd, parent_run_id=parent.run_id if parent else None)
    return parent


def ready(cfg: "TrackingConfig", *, cwd: Path) -> str | None:
    """What will keep the runs of a sweep from being published, in a sentence; None if nothing will, or tracking is off.

    Makes the store and the experiment.
    """
    if cfg.backend.value == "off":
        return None
    try:
        _open(_address(cfg, cwd), cfg.experiment)
    except Interrupted:
        raise
    except Exception as error:
        why = _reason(error, _address(cfg, cwd))
        _told.add(why)
        return f"runs will not be published to MLflow: {why} Their files will be complete all the same."
    return None


def _address(cfg: "TrackingConfig", cwd: Path) -> str:
    return whole(cfg.uri) or default_uri(cwd)


def default_uri(cwd: Path) -> str:
    """The store that the environment names, as for MLflow itself, or else the sqlite store of a working directory."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"{_SQLITE}{(cwd.resolve() / 'mlflow.db').as_posix()}"


def ui_arguments() -> list[str]:
    """The command that shows the store of `environment`, on this machine only."""
    return ["mlflow", "ui", "--host", "127.0.0.1"]


def environment(uri: str) -> dict[str, str]:
    """For that command: which store (not an argument, which other users of the machine can read); and no reports of usage.

    Where the user has set what keeps MLflow from reporting, or its libraries from warning about each other, that is left alone.
    """
    return {**_ENVIRONMENT, "PYTHONWARNINGS": "ignore", **os.environ, "MLFLOW_BACKEND_STORE_URI": uri}


def _reason(error: Exception, uri: str) -> str:
    """The first line of the message, without the user and password that the address of a server may hold; and what to do."""
    line = first_line(error).replace(uri, masked(uri))
    for secret in filter(None, (urlsplit(uri).username, urlsplit(uri).password)):
        line = line.replace(secret, "***")
    line = line if len(line) <= 2 * _HALF else f"{line[:_HALF]} ... {line[-_HALF:]}"
    said = re.sub(r"//[^/\s]*@", "//", line).rstrip(".") + "."
    if not uri.startswith(_SQLITE) or not re.search("database|sqlite|sql:", str(error), re.IGNORECASE):
        return said
    return f"{said} If {uri.removeprefix(_SQLITE)} is damaged, move it away: it holds copies, and running again publishes anew."


def _open(uri: str, experiment: str) -> tuple["MlflowClient", str]:
    """A client, and the id of the experiment, which is made if it is not there.

    Raises:
        ResultsError: the sqlite store is a directory.
        sqlite3.Error: the sqlite store cannot be opened.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    lock: AbstractContextManager[object] = nullcontext()
    artifacts = None  # a server knows its own place
    if uri.startswith(_SQLITE):
        import sqlite3

        from filelock import FileLock

        path = uri.removeprefix(_SQLITE)
        file = Path(path.partition("?")[0])
        if file.is_dir():
            raise ResultsError(f"{file} is a directory; move it away, or give another file in tracking.uri")
        # MLflow tries for two minutes to open a store that cannot be opened.
        with closing(sqlite3.connect(file, timeout=_LOCK_SECONDS)) as store:
            store.execute("PRAGMA schema_version").fetchone()
        lock = FileLock(f"{path}.lock", timeout=_LOCK_SECONDS)
        artifacts = (Path(path).resolve().parent / "mlruns").as_uri()
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    # MLflow speaks at every store it makes, urllib3 at every try to reach a server.
    for name, level in (("mlflow", "WARNING"), ("alembic", "WARNING"), ("urllib3.connectionpool", "ERROR")):
        logging.getLogger(name).setLevel(level)
    with lock:
        client = MlflowClient(tracking_uri=uri)
        found = client.get_experiment_by_name(experiment)
        if found is None:
            try:
                return client, client.create_experiment(experiment, artifact_location=artifacts, tags=_TAGS)
            except MlflowException:  # of a server: another client may have been first
                found = client.get_experiment_by_name(experiment)
                if found is None:
                    raise
    return client, found.experiment_id


def _find_or_create(client: "MlflowClient", experiment_id: str, record: Record, parent: str | None) -> tuple[str, set[str]]:
    """The id of the record's run, and the parameters that it has already (MLflow cannot change them)."""
    tags = {**record.tags, **({"mlflow.parentRunId": parent} if parent else {})}
    keys = ("tiny_ablate.digest", "tiny_ablate.place")
    query = " and ".join(f"tags.`{key}` = '{record.tags[key]}'" for key in keys)
    if found := client.search_runs([experiment_id], query, max_results=1):
        run = found[0]
        for key, value in tags.items():
            client.set_tag(run.info.run_id, key, value)
        return run.info.run_id, set(run.data.params)
    run = client.create_run(experiment_id, start_time=record.started_ms, tags=tags, run_name=record.name)
    return run.info.run_id, set()


def _log_numbers(client: "MlflowClient", run_id: str, record: Record, known: set[str]) -> None:
    """Log everything in as few calls as MLflow allows, usually one: a call a number is fifty times slower."""
    from mlflow.entities import Metric, Param

    params = [Param(key, value[:_PARAM_LENGTH]) for key, value in record.params.items() if key not in known]
    metrics = [Metric(key, value, record.ended_ms, 0) for key, value in record.metrics.items()]
    for key, curve in record.curves.items():
        metrics += [Metric(key, value, record.ended_ms, layer) for layer, value in curve.items()]
    calls = max(-(-len(params) // _PARAMS_AT_ONCE), -(-len(metrics) // _METRICS_AT_ONCE))
    for call in range(calls):
        client.log_batch(
            run_id,
            metrics=metrics[call * _METRICS_AT_ONCE : (call + 1) * _METRICS_AT_ONCE],
            params=params[call * _PARAMS_AT_ONCE : (call + 1) * _PARAMS_AT_ONCE],
        )


def _published(uri: str, experiment_id: str, run_id: str) -> Published:
    page = f"#/experiments/{experiment_id}/runs/{run_id}"
    if uri.startswith(_SQLITE):
        here = default_uri(Path.cwd())
        command = "tiny-ablate ui" if uri == here else shlex.join(["tiny-ablate", "ui", f"tracking.uri={masked(uri)}"])
        return Published(run_id, experiment_id, command, f"http://127.0.0.1:5000/{page}")
    parts = urlsplit(uri)
    # Without user and password, which an address may hold.
    server = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}"
    return Published(run_id, experiment_id, None, f"{server}/{page}")
