import io

import pytest

from data_pipeline import progress
from data_pipeline.progress import Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_log_gets_a_line_a_minute(monkeypatch):
    log, now = io.StringIO(), [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    for _ in Progress(range(10), desc="work", unit="file", file=log, mininterval=0, miniters=1):
        now[0] += 25.0
        Progress.write("said", file=log)
    lines = [line for line in log.getvalue().splitlines() if line != "said"]
    assert [line.split(" in ")[0] for line in lines] == ["work: 2 of 10", "work: 5 of 10", "work: 8 of 10"]
    assert "\r" not in log.getvalue() and all(line.endswith("left") for line in lines)


@pytest.mark.parametrize("leave", [True, False])
def test_what_is_quick_leaves_no_trace_in_a_log_but_a_bar_on_a_terminal(leave):
    for file, shown in ((io.StringIO(), False), (Terminal(), True)):
        with Progress(total=2, file=file, leave=leave) as bar:
            bar.update(2)
        assert ("2/2" in file.getvalue()) == (shown and leave) and bool(file.getvalue()) == shown


def test_quiet_is_quiet():
    file = Terminal()
    assert list(Progress([1, 2], file=file, disable=True)) == [1, 2] and file.getvalue() == ""
