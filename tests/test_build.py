"""Records from a simulated archive through the FITS path, and straight from the simulator."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from data_pipeline.build import config_from, main
from data_pipeline.building.pipeline import build, step_counts
from data_pipeline.building.row import row_generator
from data_pipeline.building.sources import BuildConfig
from data_pipeline.lines import load_lines
from data_pipeline.pairs.augmentation import AugmentationConfig
from data_pipeline.pairs.matching import Dropped
from data_pipeline.pairs.preprocessing import PreprocessingConfig
from data_pipeline.pairs.sky_groups import SplitConfig
from data_pipeline.pixel_grid import UnifiedGrid
from data_pipeline.records import Manifest, load
from data_pipeline.records.__main__ import main as records_main
from data_pipeline.records.reading import iterate
from data_pipeline.simulation import Population, SimulationConfig, simulate_batch
from data_pipeline.simulation.archive import write_archive
from data_pipeline.simulation.truth import TruthReader

N = 24


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    directory = tmp_path_factory.mktemp("archive")
    write_archive(directory, N, 5, workers=1)
    return directory


def settings(archive, **changes):
    config = {"archive": str(archive), "augmentation": AugmentationConfig(realisations=2), "chunk_size": 5}
    return BuildConfig(**{**config, **changes})


@pytest.fixture(scope="module")
def records(archive, tmp_path_factory):
    output = tmp_path_factory.mktemp("records") / "data"
    result = build(settings(archive), output, quiet=True)
    return output, result


def rows(output, splits=("train", "validation", "test")):
    manifest = Manifest.read(output)
    return [row for split in splits if manifest.splits[split] for row in iterate(output, split)]


def test_every_object_is_kept_or_accounted_for(records, archive):
    output, result = records
    kept = {str(r["unique_id"]) for r in rows(output)}
    lost = {d.unique_id for d in result.dropped}
    truths = TruthReader(archive)
    assert len(kept) + len(lost) == N and not kept & lost
    assert all(name in truths for name in kept | lost)
    assert result.manifest.steps[-1].kept == len(kept)
    assert sum(step.dropped for step in result.manifest.steps) == len(lost)


def test_only_the_training_part_is_expanded(records):
    train = rows(records[0], ("train",))
    ids = {str(r["unique_id"]) for r in train}
    assert len(train) == 3 * len(ids) and {int(r["realisation"]) for r in train} == {0, 1, 2}
    assert all(int(r["realisation"]) == 0 for r in rows(records[0], ("validation", "test")))
    shifted = [r for r in train if r["realisation"]]
    assert all(r["redshift_shift"] != 0 for r in shifted)
    original = {str(r["unique_id"]): float(r["redshift"]) for r in train if not r["realisation"]}
    for r in shifted:
        assert r["redshift"] == pytest.approx(original[str(r["unique_id"])] + float(r["redshift_shift"]))


def test_no_sky_group_crosses_a_split(records):
    output, _ = records
    place = {}
    for split in ("train", "validation", "test"):
        for row in iterate(output, split) if Manifest.read(output).splits[split] else ():
            assert place.setdefault(int(row["group"]), split) == split


def test_good_pixels_are_finite_with_positive_errors(records):
    for row in rows(records[0]):
        for stem, suffix in (("prism", ""), ("prism", "_unified"), ("grating", "")):
            good = ~row[f"{stem}_mask{suffix}"]
            assert good.any()
            assert np.isfinite(row[f"{stem}_flux{suffix}"][good]).all()
            assert (row[f"{stem}_error{suffix}"][good] > 0).all()
            assert np.isnan(row[f"{stem}_flux{suffix}"][~good]).all()
        known = row["line_flux_known"]
        assert np.isfinite(row["line_flux"][known]).all() and np.isnan(row["line_flux"][~known]).all()


def test_rows_carry_the_simulation_s_truth(records, archive):
    truths = TruthReader(archive)
    for row in rows(records[0]):
        truth = truths.get(str(row["unique_id"]))
        assert row["kind"] == truth.kind and bool(row["has_noise_free"])
        known = row["line_flux_known"]
        np.testing.assert_allclose(row["line_flux"][known], truth.line_flux[known] / 1e-20, rtol=1e-6)
        assert (row["line_flux_error"][known] == 0).all()
        rest = load_lines().wavelength
        first = rest * (1 + truth.redshift)
        expected = (first >= 0.7) & (first <= 5.2997)
        if row["realisation"]:
            # what a copy moves into the range had no data before
            moved = rest * (1 + float(row["redshift"]))
            expected &= (moved >= 1.0) & (moved <= 5.0)
        np.testing.assert_array_equal(known, expected)
        if not row["realisation"]:
            np.testing.assert_allclose(row["noise_free"], truth.noise_free / 1e-20, rtol=1e-6)
            assert row["redshift"] == truth.redshift


def test_the_prism_in_a_row_is_the_one_in_the_file(records, archive):
    truths = TruthReader(archive)
    pulls = []
    for row in rows(records[0], ("test", "validation", "train")):
        if row["realisation"]:
            continue
        truth, good = truths.get(str(row["unique_id"])), ~row["prism_mask"]
        expected = truth.noise_free_prism[good] / 1e-20
        pulls.append((row["prism_flux"][good] - expected) / row["prism_error"][good])
    # quoted errors exceed the scatter of a pixel, as in the archive
    assert 0.4 < np.std(np.clip(np.concatenate(pulls), -5, 5)) < 1.1


def test_the_same_build_gives_the_same_bytes_with_other_workers(records, archive, tmp_path):
    again = build(settings(archive), tmp_path / "again", workers=2, quiet=True)
    assert again.manifest.splits == records[1].manifest.splits


def test_a_killed_build_goes_on_where_it_was(records, archive, tmp_path):
    output = tmp_path / "killed"
    arguments = f"--archive {archive} --output {output} --realisations 2 --workers 1 --quiet"
    command = [sys.executable, "-m", "data_pipeline.build", *arguments.split()]
    root = Path(__file__).parents[1]
    process = subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    first = output / ".building" / "chunk-000000.json"
    deadline = time.monotonic() + 60
    while not first.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert first.exists() and not (output / "manifest.json").exists()
    before = first.stat().st_mtime_ns
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "from an earlier run" in done.stdout
    assert before and not (output / ".building").exists()
    whole = settings(archive, chunk_size=BuildConfig(archive="-").chunk_size)
    reference = build(whole, tmp_path / "whole", quiet=True)
    assert Manifest.read(output).splits == reference.manifest.splits


def test_an_unfinished_build_of_other_settings_is_not_mixed_in(archive, tmp_path, monkeypatch):
    output = tmp_path / "mixed"

    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("data_pipeline.building.pipeline._write_split", interrupted)
    with pytest.raises(KeyboardInterrupt):
        build(settings(archive), output, quiet=True)
    other = settings(archive, preprocessing=PreprocessingConfig(minimum_line_snr=7.0))
    with pytest.raises(
        FileExistsError, match=r"minimum_line_snr was 5\.0, now 7\.0.*choose another --output"
    ):
        build(other, output, quiet=True)
    monkeypatch.undo()
    assert build(settings(archive), output, quiet=True).resumed == 5


def test_finished_records_are_never_overwritten(records, archive):
    with pytest.raises(FileExistsError, match="holds finished records"):
        build(settings(archive), records[0], quiet=True)


def linked_copy(archive, copy):
    """The same FITS files, as links, without the truth."""
    for path in sorted(archive.rglob("*.fits")):
        target = copy / path.relative_to(archive)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(path)
    return copy


def test_a_truncated_file_costs_its_object_only(archive, tmp_path, capsys):
    copy = linked_copy(archive, tmp_path / "archive")
    victim = next(iter(sorted(copy.rglob("*clear-prism*.fits"))))
    content = victim.resolve().read_bytes()
    victim.unlink()
    victim.write_bytes(content[: len(content) // 3])
    output = tmp_path / "data"
    status = main(
        ["--archive", str(copy), "--output", str(output), "--realisations", "0", "--workers", "1", "--quiet"]
    )
    printed = capsys.readouterr()
    assert status == 1 and "could not be read" in printed.err and victim.name in printed.err
    # without the sidecar nothing is known but what is measured
    kept = rows(output)
    assert kept and all(row["kind"] == "observed" and np.isnan(row["noise_free"]).all() for row in kept)
    assert any((row["line_flux_error"][row["line_flux_known"]] > 0).all() for row in kept)


def test_an_unreadable_grating_costs_its_object_and_is_listed(archive, tmp_path, capsys):
    copy = linked_copy(archive, tmp_path / "archive")
    victim = sorted(copy.rglob("*g395m*.fits"))[0]
    content = victim.read_bytes()
    victim.unlink()
    victim.write_bytes(content[: len(content) // 3])
    arguments = ["--archive", str(copy), "--output", str(tmp_path / "data"), "--realisations", "0", "--quiet"]
    assert main([*arguments, "--workers", "1"]) == 1
    printed = capsys.readouterr()
    assert "1 objects could not be read" in printed.err and victim.name in printed.err


def test_a_build_does_not_go_on_with_repaired_files(archive, tmp_path, monkeypatch):
    copy = linked_copy(archive, tmp_path / "archive")
    victim = sorted(copy.rglob("*g395m*.fits"))[0]
    content = victim.read_bytes()
    victim.unlink()
    victim.write_bytes(content[:3000])

    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("data_pipeline.building.pipeline._write_split", interrupted)
    with pytest.raises(KeyboardInterrupt):
        build(settings(copy), tmp_path / "data", quiet=True)
    victim.write_bytes(content)
    with pytest.raises(FileExistsError, match=r"unfinished build with other settings \(objects was "):
        build(settings(copy), tmp_path / "data", quiet=True)


def test_a_mistake_does_not_lock_the_folder(archive, tmp_path):
    strict = settings(archive, preprocessing=PreprocessingConfig(minimum_line_snr=1e9))
    with pytest.raises(ValueError, match="no object is left"):
        build(strict, tmp_path / "data", quiet=True)
    assert not (tmp_path / "data" / ".building").exists()
    with pytest.raises(ValueError, match="expected 1 or more workers, got 0"):
        build(settings(archive), tmp_path / "data", workers=0, quiet=True)
    assert main(["--archive", str(archive), "--output", str(archive / "simulation.json" / "data")]) == 1


def test_fitted_line_fluxes_agree_with_the_truth(archive, tmp_path):
    real_like = tmp_path / "copy"
    real_like.mkdir()
    for item in archive.iterdir():
        if item.name != "truth":
            (real_like / item.name).symlink_to(item)
    truths = TruthReader(archive)
    build(settings(real_like, augmentation=AugmentationConfig(realisations=0)), tmp_path / "data", quiet=True)
    ratios = []
    for row in rows(tmp_path / "data"):
        truth = truths.get(str(row["unique_id"]))
        strong = row["line_flux_known"] & (row["line_flux"] > 20 * row["line_flux_error"])
        if truth.kind == "star-forming":
            # the truth is on the prism's flux scale, the fit on that of G235M; what is left is their drift
            scale = truth.arm_scale["G235M"] / np.exp(truth.flux_ratio[0])
            ratios += list(row["line_flux"][strong] * 1e-20 / truth.line_flux[strong] / scale)
    assert len(ratios) > 10 and np.median(ratios) == pytest.approx(1.0, abs=0.08)
    assert np.all(np.abs(np.array(ratios) - 1) < 0.25)


def test_nothing_left_is_an_error_that_says_why(archive, tmp_path):
    strict = settings(archive, preprocessing=PreprocessingConfig(minimum_line_snr=1e9))
    with pytest.raises(ValueError, match=r"no object is left for the training part.*no significant line"):
        build(strict, tmp_path / "data", quiet=True)


def test_straight_from_the_simulator(tmp_path):
    config = BuildConfig(
        source="simulation",
        n=20,
        seed=3,
        population="wide",
        augmentation=AugmentationConfig(realisations=0),
        preprocessing=PreprocessingConfig(minimum_line_snr=0.0),
        chunk_size=6,
    )
    result = build(config, tmp_path / "data", quiet=True)
    found = {str(r["unique_id"]): r for r in rows(tmp_path / "data")}
    batch = simulate_batch(np.arange(20), 3, SimulationConfig("wide"))
    assert set(found) == set(batch.unique_id) and not result.dropped
    for i, name in enumerate(batch.unique_id):
        np.testing.assert_allclose(
            found[name]["noise_free"], batch.noise_free[i] / 1e-20, rtol=1e-5, atol=1e-6
        )
        if np.isnan(batch.redshift[i]):
            assert np.isnan(found[name]["redshift"])
    source = result.manifest.source
    assert json.loads(source["simulation"])["population"]["name"] == "wide" and source["n"] == 20


def test_another_grid_gives_records_on_that_grid(archive, tmp_path):
    grid = UnifiedGrid(1.0, 5.0, 2000.0)
    config = settings(
        archive,
        preprocessing=PreprocessingConfig(grid=grid),
        augmentation=AugmentationConfig(realisations=0),
        seed=2,
    )
    result = build(config, tmp_path / "data", quiet=True)
    assert result.manifest.grid == grid
    row = rows(tmp_path / "data")[0]
    assert row["noise_free"].shape == (grid.size,)
    truth = TruthReader(archive).get(str(row["unique_id"])).noise_free / 1e-20
    smooth = np.interp(grid.wavelength, UnifiedGrid().wavelength, truth)
    assert np.median(np.abs(row["noise_free"] / smooth - 1)) < 0.01


def test_an_empty_split_is_said_to_be_empty(archive, tmp_path, capsys):
    one_part = settings(archive, split=SplitConfig(test_fraction=0.0), augmentation=AugmentationConfig(0))
    build(one_part, tmp_path / "data", quiet=True)
    assert records_main([str(tmp_path / "data")]) == 0
    assert re.search(r"test +0 +0 ", capsys.readouterr().out)
    for read in (iterate, load):
        with pytest.raises(
            ValueError, match=r"split 'test' of .* holds no example; build from more galaxies"
        ):
            read(tmp_path / "data", "test")


def test_building_needs_no_tensorflow(archive, tmp_path):
    code = (
        "import sys; sys.modules['tensorflow'] = None\n"
        "from data_pipeline.build import main\n"
        f"sys.exit(main(['--archive', {str(archive)!r}, '--output', {str(tmp_path / 'data')!r}, "
        "'--realisations', '0', '--workers', '1', '--quiet']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "built in" in done.stdout


def test_the_command_line_states_the_paper_s_defaults():
    archive = config_from(main.parser().parse_args(["--archive", "x", "--output", "y"]))
    assert (archive.augmentation.realisations, archive.augmentation.redshift_sigma) == (20, 0.3)
    assert archive.augmentation.noise_fraction == 0.1 and archive.split.test_fraction == 0.2
    assert archive.preprocessing.minimum_line_snr == 5 and archive.matching.flags == "ABC"
    simulated = config_from(main.parser().parse_args(["--n", "7", "--output", "y"]))
    assert (simulated.source, simulated.augmentation.realisations) == ("simulation", 0)
    assert simulated.preprocessing.minimum_line_snr == 0


def test_errors_of_the_command_line(tmp_path, capsys):
    assert main(["--output", str(tmp_path / "a")]) == 1
    assert "an archive build needs --archive DIR" in capsys.readouterr().err
    assert main(["--archive", str(tmp_path / "nowhere"), "--output", str(tmp_path / "b")]) == 1
    assert "is not a folder" in capsys.readouterr().err


def test_steps_are_counted_in_order():
    dropped = [
        Dropped("a", "one", "no row: x"),
        Dropped("b", "two", "too faint: 3"),
        Dropped("c", "two", "too faint: 4"),
    ]
    table = step_counts(("one", "two", "three"), dropped, 5)
    assert [(s.step, s.kept, s.dropped) for s in table] == [("one", 7, 1), ("two", 5, 2), ("three", 5, 0)]
    assert table[1].reasons == {"too faint": 2}


def test_copies_of_a_galaxy_differ_and_are_repeatable():
    draws = [row_generator(1, "a", r).normal() for r in (1, 2)] + [row_generator(1, "b", 1).normal()]
    assert len(set(draws)) == 3 and row_generator(1, "a", 1).normal() == draws[0]


def places_of_galaxies(output, galaxy_of):
    """Splits in which each galaxy's observations lie; asserts that enough of them were seen again."""
    places, seen = {}, {}
    for split in ("train", "validation", "test"):
        for row in iterate(output, split) if Manifest.read(output).splits[split] else ():
            galaxy = galaxy_of[str(row["unique_id"])]
            places.setdefault(galaxy, set()).add(split)
            seen.setdefault(galaxy, set()).add(str(row["unique_id"]))
    again = [galaxy for galaxy, ids in seen.items() if len(ids) > 1]
    assert len(again) >= 3 and len(set.union(*places.values())) >= 2
    return places


def test_a_galaxy_that_an_archive_holds_twice_stays_in_one_split(tmp_path):
    population = Population(reobserved_fraction=0.4, shared_id_fraction=0.2, noise_fraction=0.0)
    write_archive(tmp_path / "archive", 40, 9, SimulationConfig(population), workers=1, progress=False)
    config = settings(
        tmp_path / "archive",
        augmentation=AugmentationConfig(realisations=0),
        split=SplitConfig(test_fraction=0.4, validation_fraction=0.4),
    )
    build(config, tmp_path / "data", quiet=True)
    truths = TruthReader(tmp_path / "archive")
    galaxy = {name: int(truths.get(name).galaxy) for name in truths}
    assert all(len(splits) == 1 for splits in places_of_galaxies(tmp_path / "data", galaxy).values())


def test_a_galaxy_that_a_simulation_sees_twice_stays_in_one_split(tmp_path):
    n, seed = 150, 4
    config = BuildConfig(
        source="simulation",
        population="survey",
        n=n,
        seed=seed,
        augmentation=AugmentationConfig(realisations=0),
        preprocessing=PreprocessingConfig(grid=UnifiedGrid(1.0, 5.0, 1000.0), minimum_line_snr=0.0),
        split=SplitConfig(test_fraction=0.4, validation_fraction=0.4),
    )
    build(config, tmp_path / "data", quiet=True)
    batch = simulate_batch(np.arange(n), seed, SimulationConfig("survey"))
    galaxy = dict(zip(batch.unique_id, batch.galaxy.tolist(), strict=True))
    assert all(len(splits) == 1 for splits in places_of_galaxies(tmp_path / "data", galaxy).values())
