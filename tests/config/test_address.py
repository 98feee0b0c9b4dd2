"""A password in the address of a tracking server gets into no file."""

import os

import pytest

from tiny_ablation.config.address import VARIABLE, hidden, masked, whole


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("http://me:pw@host:5000/x", "http://***@host:5000/x"),
        ("https://token@host", "https://***@host"),
        ("postgresql+psycopg2://me:p:w@host/db", "postgresql+psycopg2://***@host/db"),
        ("postgresql://host/db?user=me&password=pw&sslmode=x", "postgresql://host/db?user=me&password=***&sslmode=x"),
        ("http://host/?access_token=pw", "http://host/?access_token=***"),
        ("http://host:5000", "http://host:5000"),
        ("sqlite:////data/a@b/mlflow.db", "sqlite:////data/a@b/mlflow.db"),
        ("sqlite:///a@b.db", "sqlite:///a@b.db"),
        ("mlruns", "mlruns"),
    ],
)
def test_what_is_masked(uri, shown):
    assert masked(uri) == shown
    assert masked(shown) == shown


@pytest.mark.parametrize("form", ["tracking.uri={}", "+tracking.uri={}", "++tracking.uri='{}'", 'tracking.uri="{}"'])
def test_a_command_line_keeps_the_whole_address_in_the_environment(form, monkeypatch):
    monkeypatch.setenv(VARIABLE, "")
    args = ["-m", form.format("http://me:pw@host"), "seed=0,1", "notes.x=http://a:b@c"]
    assert list(hidden(args)) == ["-m", form.format("http://***@host"), *args[2:]]
    assert os.environ[VARIABLE] == "http://me:pw@host"
    assert whole("http://***@host") == "http://me:pw@host"
    assert whole("http://***@elsewhere") == "http://***@elsewhere"
    monkeypatch.setenv(VARIABLE, "")
    assert (whole("http://x"), whole(None)) == ("http://x", None)
