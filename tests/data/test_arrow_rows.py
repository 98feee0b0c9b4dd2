"""Parquet files, what `datasets` saved, and the hub."""

import json

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from tiny_ablation.config.schema import DatasetConfig
from tiny_ablation.data import rows
from tiny_ablation.errors import DataError, ResultsError
from tiny_ablation.store.files import write_table

ROW = {"target": " a", "foil": " b", "targets": [" a", " c"]}
ROWS = [{"clean": f"Number {i} is", "id": i, **ROW} for i in range(9)]


def read(path, **keys):
    return rows.read_examples(DatasetConfig(name="mine", family="file", path=str(path), **keys))


@pytest.fixture
def saved(tmp_path):
    datasets.Dataset.from_list(ROWS).save_to_disk(str(tmp_path / "saved"), num_shards=3)
    return tmp_path / "saved"


def test_a_saved_data_set_is_read_whatever_its_shards(saved):
    found = read(saved)
    assert [(e.id, e.clean, e.right) for e in found] == [(str(r["id"]), r["clean"], (" a", " c")) for r in ROWS]
    assert all(e.split == "" for e in found)


def test_several_parts_are_splits_of_which_a_row_may_say_another(tmp_path):
    part = datasets.Dataset.from_list
    whole = datasets.DatasetDict(train=part(ROWS[:4]), validation=part(ROWS[4:6]), test=part(ROWS[6:]))
    whole.save_to_disk(str(tmp_path / "x"))
    assert sorted(e.split for e in read(tmp_path / "x")) == ["dev"] * 2 + ["test"] * 3 + ["train"] * 4
    renamed = datasets.DatasetDict({k: p.add_column("part", ["dev"] * len(p)) for k, p in whole.items()})
    renamed.save_to_disk(str(tmp_path / "y"))
    assert {e.split for e in read(tmp_path / "y", fields={"split": "part"})} == {"dev"}


def test_a_data_set_of_the_hub_is_read_by_the_library(monkeypatch):
    asked = []

    def load(name, subset):
        asked.append((name, subset))
        return datasets.DatasetDict(train=datasets.Dataset.from_list(ROWS))

    monkeypatch.setattr(datasets, "load_dataset", load)
    assert [e.id for e in read("hub:owner/name:easy")] == [str(r["id"]) for r in ROWS]
    read("hub:owner/name")
    assert asked == [("owner/name", "easy"), ("owner/name", None)]


def test_what_the_hub_says_is_told(monkeypatch):
    def load(name, subset):
        raise ConnectionError("Couldn't reach the hub\nmore")

    monkeypatch.setattr(datasets, "load_dataset", load)
    with pytest.raises(DataError, match=r"dataset\.path=hub:owner/name cannot be read .*: Couldn't reach the hub$"):
        read("hub:owner/name")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: (d / "state.json").write_text("{}"), "is damaged: '_data_files'"),
        (lambda d: (d / "data-00001-of-00003.arrow").unlink(), "is damaged: .*No such file"),
        (lambda d: (d / "data-00001-of-00003.arrow").write_bytes(b"ARROW" * 9), "is damaged"),
        (lambda d: (d / "data-00001-of-00003.arrow").write_bytes(b""), "is damaged: (it is empty|.*mmap)"),
        (lambda d: (d / "state.json").write_text(json.dumps({"_data_files": [{"filename": "../x.arrow"}]})), "saved/x.arrow"),
    ],
)
def test_a_damaged_directory_is_told(saved, change, message):
    change(saved)
    with pytest.raises(DataError, match=message):
        read(saved)


def overwrite(saved, content, compression=None):
    """A table or a batch of one's own in the place of the first file."""
    how = pa.ipc.IpcWriteOptions(compression=compression)
    with (
        pa.OSFile(str(saved / "data-00000-of-00003.arrow"), "w") as file,
        pa.ipc.new_stream(file, content.schema, options=how) as out,
    ):
        out.write(content)


@pytest.mark.parametrize(
    "column",
    [
        pa.DictionaryArray.from_arrays(pa.array([0] * 9, pa.int32()), pa.array(["x"])),
        pa.ListArray.from_arrays(list(range(10)), pa.array(["x"] * 9).dictionary_encode()),
        pa.array(["x"] * 9, pa.string_view()),
    ],
)
def test_columns_in_which_one_text_stands_for_many_are_refused(saved, column):
    overwrite(saved, pa.table({"clean": column}))
    with pytest.raises(DataError, match="is damaged: it has a column of"):
        read(saved)


@pytest.mark.parametrize("compression", ["lz4", "zstd"])
def test_compressed_columns_are_refused_before_they_are_decompressed(saved, compression):
    """A kilobyte of such a file may stand for any memory; `datasets` writes none."""
    overwrite(saved, pa.table({"clean": pa.array(["x" * 10**8])}), compression)
    usual = pa.default_memory_pool()
    counted = pa.proxy_memory_pool(usual)
    pa.set_memory_pool(counted)
    try:
        with pytest.raises(DataError, match="is damaged: it holds a record batch that is compressed"):
            read(saved)
    finally:
        pa.set_memory_pool(usual)
    assert counted.max_memory() < 10**6


def test_offsets_that_point_out_of_a_text_are_refused(saved):
    """pyarrow would read whatever stands in memory there."""
    offsets = pa.py_buffer(np.array([0, 2**30, 1], dtype=np.int32).tobytes())
    bad = pa.StringArray.from_buffers(2, offsets, pa.py_buffer(b"x"))
    batch = pa.RecordBatch.from_arrays([bad], ["clean"])
    overwrite(saved, batch)
    with pytest.raises(DataError, match="is damaged"):
        read(saved)


def test_texts_in_lists_that_stand_in_too_many_rows_are_refused(tmp_path):
    """The file is a megabyte, its rows 95 GB."""
    n, text = 100_000, "x" * 1_000_000
    codes = pa.DictionaryArray.from_arrays(pa.array(np.zeros(n, dtype=np.int32)), pa.array([text]))
    lists = pa.ListArray.from_arrays(pa.array(np.arange(n + 1, dtype=np.int32)), codes)
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"targets": lists}), tmp_path / "x.parquet", store_schema=False)
    assert (tmp_path / "x.parquet").stat().st_size < 2_000_000
    with pytest.raises(ResultsError, match=r"its 100,000 rows would take 93 GB\. Save it again"):
        read(tmp_path / "x.parquet")


def test_a_file_that_is_no_parquet_is_told(tmp_path):
    (tmp_path / "x.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(ResultsError, match=r"x\.parquet is damaged: .*Save it again"):
        read(tmp_path / "x.parquet")
    with pytest.raises(DataError, match="no such file"):
        read(tmp_path / "none.parquet")


def test_a_number_where_a_text_belongs_is_told_with_its_row(tmp_path):
    write_table(tmp_path / "x.parquet", pd.DataFrame({"clean": ["P is"], "target": [4], "foil": [" b"]}))
    with pytest.raises(DataError, match=r"x\.parquet has a bad row: row 1: target is a number, not text"):
        read(tmp_path / "x.parquet")


def test_a_date_that_python_cannot_hold_is_told_with_its_row(tmp_path):
    table = pa.table({"clean": ["P is"], "at": pa.array([2**60], pa.timestamp("ms"))})
    import pyarrow.parquet as pq

    pq.write_table(table, tmp_path / "x.parquet")
    with pytest.raises(DataError, match="row 1: it cannot be read"):
        read(tmp_path / "x.parquet")
