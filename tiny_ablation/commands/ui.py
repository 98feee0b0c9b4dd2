"""Browse published runs with MLflow, on this machine only.

  tiny-ablate ui
  tiny-ablate ui --port 5001
  tiny-ablate ui tracking.uri=sqlite:////data/mlflow.db

Starts MLflow's page on the store that runs from this directory are published to, and says where it is. It listens on the
loopback interface alone. Stop it with Ctrl-C.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

from tiny_ablation.commands._compose import compose
from tiny_ablation.commands._console import add_overrides, parser, say
from tiny_ablation.config.address import masked, whole
from tiny_ablation.errors import ConfigError

_PATIENCE = 5.0  # seconds that the server has to end by itself


def main(args: list[str]) -> int:
    """Start the page and wait for it to end."""
    from tiny_ablation.tracking.mlflow_sink import default_uri, environment, ui_arguments

    flags = parser("ui", __doc__)
    add_overrides(flags)
    flags.add_argument("--port", type=int, default=5000, help="default: 5000")
    given = flags.parse_intermixed_args(args)
    uri = whole(compose(given.overrides).root.tracking.uri) or default_uri(Path.cwd())
    if uri.startswith(("http://", "https://")):
        say(f"Runs are published to a server; open {masked(uri)}")
        return 0
    path = Path(uri.removeprefix("sqlite:///"))
    if uri.startswith("sqlite:///") and not path.is_file():  # MLflow would make an empty store, and show nothing
        raise ConfigError(
            f"no run was published here: {path} is missing. Start it in the directory that runs were started from, or name "
            "their store with tracking.uri=..."
        )
    say(f"http://127.0.0.1:{given.port}  (MLflow takes a few seconds to start; Ctrl-C stops it)")
    command = [sys.executable, "-m", *ui_arguments(), "--port", str(given.port)]
    server = subprocess.Popen(command, env=environment(uri), start_new_session=True)
    try:
        return int(server.wait() != 0)
    finally:  # Ctrl-C and SIGTERM come here; the server has worker processes of its own
        _end(server)


def _end(server: "subprocess.Popen[bytes]") -> None:
    """End the server and all processes of its session, by force where asking does not help."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(server.pid, number)
            server.wait(_PATIENCE)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue
