import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tiny_ablation.config.identity import hash_json
from tiny_ablation.errors import GuardError, ResultsError
from tiny_ablation.store import files
from tiny_ablation.store.checksummed_json import read_sealed, write_sealed


def a_table(rows=1000):
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "run_id": "r" * 12,
            "layer": rng.integers(0, 30, rows).astype("int32"),
            "value": np.where(np.arange(rows) % 7 == 0, np.nan, rng.normal(size=rows)),
            "metric": rng.choice(["logit_diff", "kl_div", "größe"], rows),
            "null": pd.Series([None] * rows, dtype=object),
            "hit": rng.random(rows) > 0.5,
        }
    )


def leftovers(directory):
    return list(directory.glob(".tmp-*"))


def test_write_makes_parents_and_leaves_nothing_else(tmp_path):
    path = files.write_text(tmp_path / "a" / "b.txt", "naïve\n")
    assert path.read_bytes() == "naïve\n".encode()
    assert [p.name for p in path.parent.iterdir()] == ["b.txt"]


def test_a_failing_writer_leaves_the_old_file(tmp_path):
    path = files.write_text(tmp_path / "a.txt", "old")

    def fail(temporary):
        temporary.write_text("half")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        files.write_via(path, fail)
    assert path.read_text() == "old"
    assert not leftovers(tmp_path)


def test_write_via_hands_over_the_suffix(tmp_path):
    seen = []
    files.write_via(tmp_path / "f.png", lambda p: (seen.append(p), p.write_bytes(b"x")))
    assert seen[0].suffix == ".png"
    assert seen[0].parent == tmp_path


def test_a_writer_that_writes_nothing_is_an_error(tmp_path):
    with pytest.raises(ResultsError, match="Cannot write"):
        files.write_via(tmp_path / "f.png", lambda p: None)


def test_a_full_disk_is_one_clear_error_and_keeps_the_old_file(tmp_path):
    target = files.write_text(tmp_path / "big.bin", "old")
    code = (
        "import resource, sys; from pathlib import Path; from tiny_ablation.store import files\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try: files.write_bytes(Path(sys.argv[1]), b'x' * 5000)\n"
        "except files.ResultsError as e: print(e)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(target)], capture_output=True, text=True, check=True)
    assert "big.bin: file too large; raise the file size limit" in done.stdout
    assert target.read_text() == "old"
    assert not leftovers(tmp_path)


def test_no_space_names_the_file_and_what_to_do(tmp_path):
    def full(temporary):
        raise OSError(28, "No space left on device")

    with pytest.raises(ResultsError, match=r"t\.json: no space left on device; free some space or .*hydra.run.dir"):
        files.write_via(tmp_path / "t.json", full)


def test_a_file_in_the_place_of_a_directory(tmp_path):
    (tmp_path / "d").write_text("")
    with pytest.raises(ResultsError, match="Cannot write"):
        files.write_text(tmp_path / "d" / "x.txt", "")


def test_killed_writers_leave_whole_files_and_known_litter(tmp_path):
    code = (
        "import sys; from pathlib import Path; from tiny_ablation.store.files import write_bytes\n"
        "for i in range(10**6):\n"
        "    write_bytes(Path(sys.argv[1]), bytes([i % 251]) * 400_000)\n"
        "    if i == 0: print('go', flush=True)"
    )
    for delay in (0.0, 0.003, 0.007, 0.02):
        child = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "f")], stdout=subprocess.PIPE)
        child.stdout.readline()
        time.sleep(delay)
        child.kill()
        child.communicate()
        data = (tmp_path / "f").read_bytes()
        assert len(data) == 400_000
        assert len(set(data)) == 1
    files.clean_stale(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


def test_clean_stale_removes_only_temporary_files(tmp_path):
    keep = files.write_text(tmp_path / "metrics" / "a.json", "{}")
    stale = tmp_path / "metrics" / ".tmp-0123.json"
    stale.write_text("half")
    assert files.clean_stale(tmp_path) == [stale]
    assert not stale.exists()
    assert keep.exists()


def test_json_text_is_exact():
    obj = {"z": 0.1, "a": [1, True, None, float("nan"), np.float32(0.5), np.int64(3)], "ü": (np.array([1.5, np.nan]),)}
    expected = (
        '{\n  "z": 0.1,\n  "a": [\n    1,\n    true,\n    null,\n    null,\n    0.5,\n    3\n  ],\n'
        '  "ü": [\n    [\n      1.5,\n      null\n    ]\n  ]\n}\n'
    )
    assert files.to_json(obj) == expected


@pytest.mark.parametrize("value", [1.0 / 3.0, 1e-300, -0.0, 123456789.123456789, 2.0**53])
def test_json_floats_come_back_exactly(tmp_path, value):
    path = files.write_json(tmp_path / "x.json", {"v": np.float64(value)})
    assert repr(files.read_json(path)["v"]) == repr(value)


def test_json_refuses_infinity_by_its_key():
    with pytest.raises(GuardError, match=r"metrics\.1\.mean is infinite"):
        files.to_json({"metrics": [{}, {"mean": np.array(np.inf)}]})


def test_json_refuses_what_it_cannot_hold():
    with pytest.raises(GuardError, match=r"Cannot store a\.b as JSON: it is a set"):
        files.to_json({"a": {"b": {1, 2}}})


def test_a_byte_of_the_command_line_that_is_no_text_comes_back(tmp_path):
    """Python hands it over as half of a surrogate pair."""
    argv = ["notes.x=" + b"\xff".decode(errors="surrogateescape")]
    assert files.read_json(files.write_json(tmp_path / "x.json", {"argv": argv})) == {"argv": argv}
    assert read_sealed(write_sealed(tmp_path / "s.json", {"argv": argv})) == {"argv": argv}
    assert len(hash_json(argv)) == 64


def test_a_table_larger_than_memory_is_refused(tmp_path, monkeypatch):
    import psutil

    path = files.write_table(tmp_path / "x.parquet", a_table())
    monkeypatch.setattr(psutil, "virtual_memory", lambda: type("Memory", (), {"available": 8 * 1000 * 6 - 1}))
    with pytest.raises(ResultsError, match=r"x\.parquet is damaged: its 1,000 rows would take 0 GB"):
        files.read_table(path)


def test_a_text_that_stands_in_too_many_rows_is_refused(tmp_path):
    rows, text = 400_000, "x" * 1_000_000
    codes = pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, dtype=np.int32)), pa.array([text]))
    path = files.write_table(tmp_path / "x.parquet", pa.table({"text": codes, "value": pa.array(np.zeros(rows))}))
    assert path.stat().st_size < 205_000
    with pytest.raises(ResultsError, match=r"x\.parquet is damaged: its 400,000 rows would take 373 GB"):
        files.read_table(path)
    assert files.read_arrow(path, ["value"]).num_rows == rows
    assert files.read_arrow(path, dictionaries=["text"]).nbytes < 10_000_000


def test_text_comes_back_as_text_with_what_is_missing(tmp_path):
    frame = pd.DataFrame({"a": ["x", None, "y", "x"], "b": [1.0, 2.0, None, 4.0]})
    arrow = files.read_arrow(files.write_table(tmp_path / "x.parquet", frame))
    assert arrow.schema.types == [pa.string(), pa.float64()]
    assert arrow.to_pydict() == {"a": ["x", None, "y", "x"], "b": [1.0, 2.0, None, 4.0]}


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe{}", b"[" * 100_000, b"NaN", b"[-Infinity]", b"1e999"])
def test_damaged_json_is_a_results_error(tmp_path, content):
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(ResultsError, match="is damaged"):
        files.read_json(path)


def test_tables_have_one_byte_sequence(tmp_path):
    one = files.write_table(tmp_path / "a.parquet", a_table())
    shuffled_index = a_table().set_index(np.arange(1000)[::-1])
    two = files.write_table(tmp_path / "b.parquet", shuffled_index)
    categorical = a_table().astype({"metric": "category"})
    three = files.write_table(tmp_path / "c.parquet", categorical)
    assert one.read_bytes() == two.read_bytes() == three.read_bytes()


def test_arrow_tables_of_codes_have_the_same_content(tmp_path):
    path = files.write_table(tmp_path / "a.parquet", a_table())
    coded = files.read_arrow(path, dictionaries=["metric"])
    again = files.write_table(tmp_path / "b.parquet", pa.concat_tables([coded.slice(0, 10), coded.slice(10)]))
    pd.testing.assert_frame_equal(files.read_table(again), files.read_table(path))


def test_some_columns(tmp_path):
    path = files.write_table(tmp_path / "a.parquet", a_table())
    assert files.read_arrow(path, ["metric", "not there"]).column_names == ["metric"]


def test_tables_come_back(tmp_path):
    path = files.write_table(tmp_path / "a=b" / "a.parquet", a_table())
    back = files.read_table(path)
    pd.testing.assert_frame_equal(back.drop(columns="null"), a_table().drop(columns="null"))
    assert back["null"].isna().all()


def test_an_empty_table_keeps_its_columns(tmp_path):
    path = files.write_table(tmp_path / "a.parquet", a_table().iloc[:0])
    assert list(files.read_table(path).columns) == list(a_table().columns)


def test_tables_are_compressed_dictionary_encoded_and_free_of_pandas(tmp_path):
    file = pq.ParquetFile(files.write_table(tmp_path / "a.parquet", a_table()))
    columns = {name: file.metadata.row_group(0).column(i) for i, name in enumerate(file.schema.names)}
    assert {c.compression for c in columns.values()} == {"ZSTD"}
    assert "RLE_DICTIONARY" in columns["metric"].encodings
    assert "RLE_DICTIONARY" not in columns["value"].encodings
    assert file.metadata.metadata is None
    assert columns["value"].statistics.null_count == 143


def test_a_truncated_table_is_a_results_error(tmp_path):
    path = files.write_table(tmp_path / "a.parquet", a_table())
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ResultsError, match="is damaged"):
        files.read_table(path)


def test_a_column_twice_is_refused(tmp_path):
    with pytest.raises((GuardError, ValueError)):
        files.write_table(tmp_path / "a.parquet", pd.DataFrame([[1, 2]], columns=["x", "x"]))
    assert not list(tmp_path.iterdir())


def test_sha256_of_a_known_text(tmp_path):
    path = files.write_text(tmp_path / "a", "abc")
    assert files.sha256_file(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
