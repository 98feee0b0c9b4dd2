"""A tracking server that is down or slow, an index that answers slowly, badly, or breaks off."""

import functools
import http.server
import random
import socketserver
import threading
import time
from contextlib import contextmanager

import pytest

from tests.faults.harness import Lost, Unclear, run, same
from tests.faults.test_damage import TRACKED

PATIENCE = 180  # seconds that a run may spend on a server that does not work


@contextmanager
def serving(handler):
    """A server of this handler; yields its address."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class Silent(socketserver.StreamRequestHandler):
    """Takes every connection and never answers."""

    def handle(self):
        time.sleep(600)


class Refusing(http.server.BaseHTTPRequestHandler):
    """Answers each question, after a while, that it cannot."""

    def _refuse(self):
        time.sleep(2)
        self.send_error(503)

    do_GET = do_POST = do_PATCH = do_PUT = _refuse

    def log_message(self, *_args):
        pass


class Slow(http.server.BaseHTTPRequestHandler):
    """Answers as a tracking server would, but takes its time."""

    seconds = 5.0

    def do_POST(self):
        import json

        time.sleep(self.seconds)
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        run = {
            "info": {"run_id": "1", "experiment_id": "0", "artifact_uri": "mlflow-artifacts:/0", "status": "RUNNING"},
            "data": {},
        }
        body = json.dumps({"run": run, "runs": [], "experiment_id": "0"}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_PUT = do_PATCH = do_POST

    def do_GET(self):
        import json

        time.sleep(self.seconds)
        body = json.dumps({"experiment": {"experiment_id": "0", "name": "x", "lifecycle_stage": "active"}}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_args):
        pass


@pytest.mark.faults
@pytest.mark.parametrize("how", ["down", "silent", "refusing", "slow"])
def test_a_tracking_server(undisturbed, fresh, attempt, zygote, how):
    expected, place = undisturbed(TRACKED), fresh(TRACKED)
    handlers = {"silent": Silent, "refusing": Refusing, "slow": Slow, "down": Refusing}
    with attempt(f"tracking server: {how}") as now, serving(handlers[how]) as uri:
        now.asked = 1
        begun = time.monotonic()
        uri = "http://127.0.0.1:9" if how == "down" else uri
        done = run(TRACKED, place, f"tracking.uri={uri}", zygote=zygote)
        done.worked()
        same(*map(_without_address, (expected.results, TRACKED.results(place))))
        if time.monotonic() - begun > PATIENCE:
            raise Lost(f"{time.monotonic() - begun:.0f} s were lost on a server")
        if "Not published to MLflow" not in done.err or "are complete" not in done.err:
            raise Unclear(done.err[-2000:])


def _without_address(files):
    """The config names the server."""
    return {name: data for name, data in files.items() if name not in ("config.yaml", "manifest.json")}


class Broken(http.server.SimpleHTTPRequestHandler):
    """An index over a directory that has a fault: what `how` says."""

    how, at = "", 0

    def copyfile(self, source, outputfile):
        if not self.path.endswith(".whl"):
            return super().copyfile(source, outputfile)
        data = source.read()
        if self.how == "breaks off":
            outputfile.write(data[: self.at % len(data)])
            self.close_connection = True
        elif self.how == "altered":
            at = self.at % len(data)
            outputfile.write(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        elif self.how == "slow":
            for i in range(0, len(data), len(data) // 8 + 1):
                outputfile.write(data[i : i + len(data) // 8 + 1])
                outputfile.flush()
                time.sleep(0.7)
        elif self.how == "stops":
            outputfile.write(data[: self.at % len(data)])
            outputfile.flush()
            time.sleep(30)
        return None

    def do_GET(self):
        if self.how == "refuses":
            return self.send_error(500)
        return super().do_GET()

    def log_message(self, *_args):
        pass


@pytest.mark.faults
@pytest.mark.parametrize(
    ("how", "number"), [("breaks off", 0), ("breaks off", 1), ("altered", 0), ("stops", 0), ("slow", 0), ("refuses", 0)]
)
def test_an_index(undisturbed, fresh, attempt, zygote, fetch, index, how, number):
    expected, place = undisturbed(fetch), fresh(fetch)
    root = index[0].parents[2]
    handler = type("Handler", (Broken,), {"how": how, "at": random.Random(number).randrange(10**9)})
    with attempt(f"index: {how}") as now:
        with serving(functools.partial(handler, directory=str(root))) as uri:
            done = run(fetch, place, zygote=zygote, env={"PIP_INDEX_URL": f"{uri}/simple"})
        if how == "slow":
            done.worked()
        else:
            now.asked = 1
            done.told("cannot fetch fake-model==1.0", "model=local")
        run(fetch, place, zygote=zygote).worked()
        same(expected.results, fetch.results(place))
