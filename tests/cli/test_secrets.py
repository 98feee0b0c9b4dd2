"""What is said to be safe to give away holds no password."""

import pytest

from tests.cli.conftest import TOY

ADDRESS = "tracking.uri=http://somebody:hunter2@127.0.0.1:9/x"


@pytest.mark.slow
@pytest.mark.parametrize("many", [False, True])
def test_a_password_of_the_tracking_server_stands_nowhere(cli, tmp_path, many):
    place = ("-m", "seed=0,1", "hydra.sweep.dir=out", "hydra/launcher=basic") if many else ("hydra.run.dir=out",)
    args = (*(arg for arg in TOY if arg != "tracking=off"), "verify=off", "dataset.n_examples=8", ADDRESS, *place)
    done = cli(*args)
    assert "hunter2" not in done.out + done.err
    assert "refused" in done.err  # it was tried
    found = {path.name for path in tmp_path.rglob("*") if path.is_file() and b"hunter2" in path.read_bytes()}
    assert found == set()
    [config, *_] = tmp_path.rglob("config.yaml")
    assert "uri: http://***@127.0.0.1:9/x" in config.read_text()
