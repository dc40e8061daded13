import errno

import pytest

from data_pipeline.writers.atomic import replacing


def test_a_full_disk_is_named_after_the_file_and_leaves_the_old_one(tmp_path):
    path = tmp_path / "table.ecsv"
    path.write_text("before")
    with pytest.raises(OSError, match=r"No space left on device: '.*table\.ecsv'"), replacing(path) as part:
        part.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert [one.name for one in tmp_path.iterdir()] == ["table.ecsv"]
    assert path.read_text() == "before"


def test_an_error_that_names_its_file_keeps_it(tmp_path):
    with pytest.raises(FileNotFoundError, match="elsewhere"), replacing(tmp_path / "table.ecsv"):
        (tmp_path / "elsewhere").read_text()
