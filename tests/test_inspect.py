import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.text import Text
from PIL import Image

from data_pipeline.building.pipeline import build
from data_pipeline.building.sources import BuildConfig
from data_pipeline.catalogue import read_catalogue
from data_pipeline.inspect import main
from data_pipeline.instrument import PRISM, load_instrument
from data_pipeline.pairs.augmentation import AugmentationConfig
from data_pipeline.pairs.matching import find_catalogue, match, scan_archive
from data_pipeline.pairs.preprocessing import PreprocessingConfig
from data_pipeline.pictures import choice
from data_pipeline.pictures.choice import choose_match, choose_original, find_family
from data_pipeline.pictures.spectra import draw_augmentation_family
from data_pipeline.pixel_grid import UnifiedGrid
from data_pipeline.records import iterate
from data_pipeline.simulation.archive import write_archive


def steps(axes):
    return [line for line in axes.lines if line.get_drawstyle() == "steps-mid"]


def smallest_text(figure):
    figure.draw_without_rendering()
    return min(t.get_fontsize() for t in figure.findobj(Text) if t.get_text() and t.get_visible())


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    folder = tmp_path_factory.mktemp("archive")
    write_archive(folder, 6, 3, workers=1, progress=False)
    return folder


@pytest.fixture(scope="module")
def records(archive, tmp_path_factory):
    folder = tmp_path_factory.mktemp("records")
    build(
        BuildConfig(archive=str(archive), augmentation=AugmentationConfig(realisations=3)), folder, quiet=True
    )
    return folder


@pytest.fixture(scope="module")
def train_id(records):
    return next(iterate(records, "train"))["unique_id"]


def test_family_is_one_black_and_the_copies_dashed_in_order_of_redshift(records, train_id):
    family = find_family(records, train_id)
    assert family.stored and family.split == "train" and len(family.copies) == 3
    grid = UnifiedGrid().wavelength
    figure = draw_augmentation_family(
        family.original, family.copies, load_instrument(PRISM).wavelength, grid, "t"
    )
    top, bottom, bar = figure.axes
    for axes, name in ((top, "prism_flux"), (bottom, "grating_flux")):
        dashed = [line for line in axes.lines if line.is_dashed()]
        assert len(dashed) == 3
        (solid,) = steps(axes)
        assert to_hex(solid.get_color()) == "#000000"
        np.testing.assert_array_equal(solid.get_ydata(), family.original[name])
        for line, row in zip(dashed, family.copies, strict=True):
            np.testing.assert_array_equal(line.get_ydata(), row[name])
        # the colour map grows from blue to yellow
        red = [line.get_color()[0] for line in dashed]
        assert np.array_equal(np.argsort(red), np.argsort([row["redshift"] for row in family.copies]))
        assert "erg s$^{-1}$" in axes.get_ylabel()
    assert bar.get_ylabel() == "Redshift of the realisation"
    low, high = top.get_xlim()
    assert low >= 1.0 and high <= 5.0  # the common range
    assert smallest_text(figure) >= 8


def test_the_default_galaxy_of_records_has_its_main_lines_outside_gaps(records, monkeypatch):
    rows = [row for row in iterate(records, "train") if row["realisation"] == 0]
    monkeypatch.setattr(choice, "iterate", lambda *_, **__: iter(rows))
    for row in rows[1:]:  # only the first galaxy keeps its lines
        row["grating_mask"] = np.ones_like(row["grating_mask"])
    assert choose_original(records)["unique_id"] == rows[0]["unique_id"]
    for row in rows:  # and now only the first one loses a line
        row["grating_mask"] = np.zeros_like(row["grating_mask"])
    line = np.searchsorted(UnifiedGrid().wavelength, 0.50082 * (1 + rows[0]["redshift"]))
    rows[0]["grating_mask"][line - 3 : line + 4] = True
    assert choose_original(records)["unique_id"] != rows[0]["unique_id"]


def test_records_picture_and_its_wording(records, train_id, tmp_path, capsys):
    assert main(["--records", str(records), "--object", train_id, "--output", str(tmp_path)]) == 0
    assert "3 realisations as stored (train)" in capsys.readouterr().out
    picture = tmp_path / f"augmentation_{train_id}.png"
    with Image.open(picture) as image:
        assert image.size[0] == 1400
    assert list(tmp_path.iterdir()) == [picture]


def test_without_stored_realisations_some_are_made_and_said_so(archive, tmp_path, capsys):
    plain = tmp_path / "records"
    build(
        BuildConfig(archive=str(archive), augmentation=AugmentationConfig(realisations=0)), plain, quiet=True
    )
    assert main(["--records", str(plain), "--output", str(tmp_path / "one.png")]) == 0
    assert "20 realisations made for this picture: the records (train) hold none" in capsys.readouterr().out
    assert (tmp_path / "one.png").is_file()


def test_archive_pictures_of_the_default_galaxy(archive, tmp_path, capsys):
    assert main(["--archive", str(archive), "--output", str(tmp_path)]) == 0
    files, _ = scan_archive(archive)
    catalogue = read_catalogue(find_catalogue(archive))
    matches, _ = match(files, catalogue)
    chosen = choose_match(matches, catalogue, PreprocessingConfig())
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        f"pair_{chosen.unique_id}.png",
        f"stitching_{chosen.unique_id}.png",
    ]
    out = capsys.readouterr().out
    assert f"{chosen.unique_id}, z = {chosen.redshift:.4f}, flag A" in out
    assert "PRISM, 706 pixels" in out

    # the rule, on the catalogue itself
    most = [m for m in matches if len(m.gratings) == max(len(m.gratings) for m in matches)]
    row_of = list(catalogue.unique_id)

    def detected(m):
        row = row_of.index(m.unique_id)
        return sum(line.flux[row] > 5 * line.error[row] for line in catalogue.grating_lines.values())

    assert detected(chosen) == max(detected(m) for m in most)


def test_default_galaxy_without_line_fluxes_is_read_from_the_spectra(archive):
    files, _ = scan_archive(archive)
    catalogue = read_catalogue(find_catalogue(archive))
    matches, _ = match(files, catalogue)
    bare = type(catalogue)(**{**vars(catalogue), "grating_lines": {}, "prism_lines": {}})
    looked_at = []

    def progress(candidates):
        looked_at.extend(candidates)
        return candidates

    assert choose_match(matches, bare, PreprocessingConfig(), progress) in looked_at


def test_files_one_picture_each_and_a_bad_file_costs_itself_only(archive, tmp_path, capsys):
    good = sorted(archive.rglob("*clear-prism*.fits"))[:2]
    bad = tmp_path / "cut.fits"
    bad.write_bytes(good[0].read_bytes()[:4000])
    out = tmp_path / "pictures"
    assert main([str(good[0]), str(bad), str(good[1]), "--redshift", "2", "--output", str(out)]) == 1
    assert sorted(p.name for p in out.iterdir()) == sorted(
        f"{p.name.removesuffix('.fits')}.png" for p in good
    )
    shown = capsys.readouterr()
    assert shown.out.count("PRISM, 706 pixels") == 2
    assert "1 could not be read" in shown.err and "cut.fits" in shown.err


def test_files_of_the_same_name_do_not_overwrite_each_other(archive, tmp_path):
    good = next(archive.rglob("*clear-prism*.fits"))
    copy = tmp_path / "other" / good.name
    copy.parent.mkdir()
    copy.write_bytes(good.read_bytes())
    out = tmp_path / "pictures"
    assert main([str(good), str(copy), "--output", str(out)]) == 0
    assert len(list(out.iterdir())) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "expected one of: FILE..., --archive DIR, --records DIR"),
        (["a.fits", "--archive", "x"], "expected one of"),
        (["a.fits", "--object", "1"], "--object and --picture go with"),
        (["a.fits", "--redshift", "-3"], "lies from 0 to 30, got -3"),
        (["a.fits", "--redshift", "1e6"], "lies from 0 to 30, got 1e+06"),
        (["a.fits", "--redshift", "nan"], "lies from 0 to 30, got nan"),
        (
            ["a.fits", "--output", "x.pdf"],
            "--output x.pdf: pictures are PNG files; give a name ending in .png",
        ),
        (["--archive", "x", "--redshift", "2"], "--redshift goes with FILE"),
        (["--records", "x", "--catalogue", "c"], "--catalogue and --columns go with --archive"),
        (["--records", "x", "--picture", "pair"], "is drawn from --archive"),
        (["--records", "x", "--extraction", "5pix"], "--extraction goes with"),
        (["--archive", "x", "--picture", "augmentation"], "is drawn from --records"),
        (["--archive", "x", "--output", "p.png"], "names one file, but several pictures"),
        (["a.fits", "b.fits", "--output", "p.png"], "names one file, but several pictures"),
    ],
)
def test_options_without_effect_are_refused(arguments, message, capsys):
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


def test_errors_name_what_is_missing_and_what_is_near(archive, records, tmp_path, capsys):
    known = str(next(iterate(records, "train"))["unique_id"])
    for arguments, message in (
        (["--archive", str(tmp_path / "none")], "is not a folder"),
        (["--archive", str(archive), "--object", known + "9"], f"such as {known}"),
        (["--records", str(records), "--object", known + "9"], "no object"),
        (["--records", str(archive)], "no manifest.json"),
    ):
        assert main([*arguments, "--output", str(tmp_path)]) == 1
        assert message in capsys.readouterr().err
