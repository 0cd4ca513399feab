"""Payload files: whole or absent, private, durable."""

import stat

import pytest

from jupyter_llm_batch.client.export import write
from jupyter_llm_batch.core.errors import Incomplete, StoreProblem, UsageProblem
from jupyter_llm_batch.storage import files
from jupyter_llm_batch.storage.input_file import ROWS_FILE, write_rows


def test_a_file_gets_its_name_when_it_is_whole(tmp_path):
    """Until `commit` nothing stands under the final name."""
    path = tmp_path / "a.jsonl"
    writer = files.PayloadWriter(path)
    writer.write(b"{}\n")
    assert not path.exists()
    writer.commit()
    assert path.read_bytes() == b"{}\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in tmp_path.iterdir()] == ["a.jsonl"]


def test_a_failed_write_leaves_nothing(tmp_path):
    """An exception while writing leaves neither the file nor its temporary one."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"old")
    with pytest.raises(ZeroDivisionError), files.writing(path) as writer:
        writer.write(b"new" * (1 // 0))
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["a.jsonl"]


def test_two_kernels_snapshot_the_same_rows_at_once(tmp_path):
    """While one writes its rows another is done with the same: neither stumbles."""

    class Rows:
        meanwhile = False

        def snapshot(self, path):
            path.write_bytes(b"rows")
            if self.meanwhile:
                self.meanwhile = False
                write_rows(self, tmp_path)

    rows = Rows()
    for _ in range(2):  # nothing there before, and then the same
        rows.meanwhile = True
        write_rows(rows, tmp_path)
        assert (tmp_path / ROWS_FILE).read_bytes() == b"rows"
        assert stat.S_IMODE((tmp_path / ROWS_FILE).stat().st_mode) == 0o600
        assert [file.name for file in tmp_path.iterdir()] == [ROWS_FILE]


@pytest.mark.parametrize("content", [b"", b'{"a":1}\n', b'{"a":1}\n{"b":2}'])
def test_whole_files_pass(tmp_path, content):
    """An empty file, a last newline, or a whole last object is complete."""
    path = tmp_path / "a"
    path.write_bytes(content)
    files.check_whole(path)


@pytest.mark.parametrize("content", [b'{"a":1}\n{"b":', b'{"a"', b"{" + b"x" * (2 << 20)])
def test_cut_files_are_seen(tmp_path, content):
    """A file that ends inside a line is incomplete."""
    path = tmp_path / "a"
    path.write_bytes(content)
    with pytest.raises(Incomplete):
        files.check_whole(path)


def test_lines_leave_out_blanks(tmp_path):
    """Blank lines are no rows."""
    path = tmp_path / "a"
    path.write_bytes(b"1\n\n  \n2")
    assert list(files.lines(path)) == [b"1\n", b"2"]


def test_folders_are_private(tmp_path):
    """Every folder that is made is the user's own."""
    made = files.private_folder(tmp_path / "a" / "b")
    assert stat.S_IMODE(made.stat().st_mode) == 0o700
    assert stat.S_IMODE(made.parent.stat().st_mode) == 0o700


def test_a_folder_that_cannot_be_made_names_the_remedy(tmp_path):
    """The message says how to choose another folder."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreProblem, match="data_dir"):
        files.private_folder(tmp_path / "file" / "x")


RECORDS = [{"row": 0, "answer": 'a "b"\nc'}, {"row": 1, "answer": None}]


def test_export_formats(tmp_path):
    """CSV, JSONL and Parquet hold every row."""
    import csv
    import json

    import pyarrow.parquet as pq

    with write(RECORDS, tmp_path / "a.csv").open(newline="") as file:
        assert [row["answer"] for row in csv.DictReader(file)] == ['a "b"\nc', ""]
    lines = write(RECORDS, tmp_path / "a.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == RECORDS
    assert pq.read_table(write(RECORDS, tmp_path / "a.parquet")).to_pylist() == RECORDS


def test_export_to_an_unknown_ending_is_one_line(tmp_path):
    """The message names the endings that work."""
    with pytest.raises(UsageProblem, match=r"\.csv, \.jsonl or \.parquet"):
        write(RECORDS, tmp_path / "a.xlsx")


def test_bytes_that_are_no_text_are_no_json():
    """A garbled download is told by it, wherever in a line the bytes fell."""
    assert files.is_json(b'{"name": "caf\xc3\xa9"}')
    assert not files.is_json(b'{"name": "caf\xff"}')
