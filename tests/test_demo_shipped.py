"""`examples.demo` with its commands left out: which it runs, on what, and what it says."""

import pytest

import examples.demo as demo


@pytest.fixture
def commands(monkeypatch):
    ran = []
    monkeypatch.setattr(demo, "run", lambda *words: ran.append(words))
    monkeypatch.setattr(demo, "simulate_unseen", lambda *words: ran.append(("simulate", *words)))
    monkeypatch.setattr(demo, "redshift_table", lambda folder: "a table")
    monkeypatch.setattr(demo, "draw_best", lambda folder: folder / "recovered.png")
    return ran


def test_it_simulates_enhances_and_tabulates(commands, tmp_path, capsys):
    folder = tmp_path / "demo"
    assert demo.main(["--output", str(folder), "--unseen", "3"]) == 0
    assert [words[0] for words in commands] == ["simulate", "kspecsr.enhance", "kspecsr.catalogue"]
    assert commands[0][1:3] == (folder / "unseen", 3)
    assert commands[1][1:] == (str(folder / "unseen"), "--output", str(folder / "enhanced"), "--plot")
    out = capsys.readouterr().out
    assert "a table" in out and "recovered.png" in out and "make demo-train" in out


def test_a_file_of_ones_own_is_super_resolved_instead(commands, tmp_path, capsys):
    assert demo.main(["--output", str(tmp_path / "demo"), "--file", "my_prism.fits"]) == 0
    assert [words[0] for words in commands] == ["kspecsr.enhance", "kspecsr.catalogue"]
    assert commands[0][1] == "my_prism.fits"
    assert "recovered.png" not in capsys.readouterr().out


def test_bad_counts_and_folders_are_refused(commands, tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        demo.main(["--output", str(tmp_path / "demo"), "--unseen", "0"])
    (tmp_path / "thesis.tex").write_text("x")
    assert demo.main(["--output", str(tmp_path)]) == 1
    assert "was not made by this demo" in capsys.readouterr().err
