import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.colors import to_hex
from matplotlib.text import Text

from data_pipeline.instrument import HAND_OVERS
from data_pipeline.pairs.stitching import stitch
from data_pipeline.pictures.line_marks import LINE_MARK, line_title, spread
from data_pipeline.pictures.spectra import MASKED, draw_galaxy_pair, draw_single_spectrum, facts, line_windows
from data_pipeline.pictures.stitching import binned, contributions, draw_stitching
from data_pipeline.pictures.style import (
    ARM_COLOURS,
    flux_limits,
    legend_below,
    line_significance,
    new_figure,
    overview_limits,
    save_picture,
)
from data_pipeline.pixel_grid import UnifiedGrid
from data_pipeline.spectrum import ObservedSpectrum, SpectrumMeta

REDSHIFT = 2.5
LINES_UM = {"Halpha": 0.65646, "[OIII]_5008": 0.50082}  # vacuum, NIST


def arm(disperser, low, high, pixels, scale=1.0, noise=2e-22, seed=0, wild=True):
    """Continuum, Halpha and [O III] at z = 2.5 with noise, one gap, and wild pixels at the blue end."""
    rng = np.random.default_rng(seed)
    wavelength = np.linspace(low, high, pixels)
    width = 0.012 if disperser == "PRISM" else 0.0012
    flux = np.full(pixels, 1e-21)
    for rest in LINES_UM.values():
        flux += 1e-21 * 0.05 / width * np.exp(-0.5 * ((wavelength - rest * (1 + REDSHIFT)) / width) ** 2)
    flux = scale * flux + rng.normal(0, noise, pixels)
    if wild:
        flux[:3] = 1e-17
    mask = np.zeros(pixels, bool)
    mask[40:60] = True
    meta = SpectrumMeta(target="1234", disperser=disperser, filter="CLEAR", format="test", path="x.fits")
    return ObservedSpectrum(wavelength, flux, np.full(pixels, noise), mask, meta)


@pytest.fixture(scope="module")
def prism():
    return arm("PRISM", 0.6, 5.3, 706)


@pytest.fixture(scope="module")
def gratings():
    return [
        arm("G140M", 0.7, 1.9, 1900, 0.9, seed=1, wild=False),
        arm("G235M", 1.6, 3.2, 1500, 1.0, seed=2, wild=False),
        arm("G395M", 2.8, 5.3, 1400, 1.2, seed=3, wild=False),
    ]


def steps(axes):
    return [line for line in axes.lines if line.get_drawstyle() == "steps-mid"]


def mark_positions(axes):
    return sorted(line.get_xdata()[0] for line in axes.lines if line.get_gid() == LINE_MARK)


def smallest_text(figure):
    figure.draw_without_rendering()
    return min(t.get_fontsize() for t in figure.findobj(Text) if t.get_text() and t.get_visible())


def test_masked_pixels_are_gaps_and_ticked(prism):
    top, bottom = draw_single_spectrum(prism).axes
    for axes in (top, bottom):
        (line,) = steps(axes)
        assert np.array_equal(np.isnan(line.get_ydata()), prism.mask)
        assert np.array_equal(line.get_xdata(), prism.wavelength)
    (ticks,) = [line for line in top.lines if line.get_gid() == MASKED]
    assert np.array_equal(ticks.get_xdata(), prism.wavelength[prism.mask])


def test_single_spectrum_states_units_target_disperser_and_format(prism):
    figure = draw_single_spectrum(prism, REDSHIFT)
    top, bottom = figure.axes
    assert "10^{-21}" in top.get_ylabel() or "10^{-20}" in top.get_ylabel()
    assert "erg s$^{-1}$ cm$^{-2}$" in top.get_ylabel()
    assert "µm" in bottom.get_xlabel()
    assert bottom.get_ylabel() == "S/N"
    title = figure.get_suptitle()
    for part in ("1234", "PRISM/CLEAR", "test", "z = 2.5000", "20 of 706 pixels masked"):
        assert part in title
    assert smallest_text(figure) >= 8


def test_flux_in_the_picture_is_the_flux_of_the_file(prism):
    figure = draw_single_spectrum(prism)
    exponent = int(figure.axes[0].get_ylabel().split("10^{")[1].split("}")[0])
    shown = steps(figure.axes[0])[0].get_ydata() * 10.0**exponent
    np.testing.assert_allclose(shown[~prism.mask], prism.flux[~prism.mask], rtol=1e-12)


def test_limits_show_the_line_and_leave_wild_pixels_out(prism):
    low, high = draw_single_spectrum(prism).axes[0].get_ylim()
    shown = steps(draw_single_spectrum(prism).axes[0])[0].get_ydata()
    peak = np.nanmax(shown[10:])
    assert low < 0 < peak < high < 1.5 * peak
    assert np.nanmax(shown) > 100 * high  # the wild pixels are drawn, beyond the axis


def test_pixels_beyond_the_axis_are_counted_and_pointed_at(prism):
    figure = draw_single_spectrum(prism)
    (up,) = [line for line in figure.axes[0].lines if line.get_marker() == "^"]
    assert np.array_equal(up.get_xdata(), prism.wavelength[:3])
    assert "good pixels beyond the axis: 3" in figure.get_suptitle()


@settings(max_examples=40)
@given(
    peak=st.floats(10, 1e4),
    centre=st.floats(20.0, 180.0),
    width=st.floats(0.9, 6.0),
    wild=st.floats(1e5, 1e9),
    seed=st.integers(0, 1000),
)
def test_limits_hold_any_line_and_no_single_outlier(peak, centre, width, wild, seed):
    x = np.arange(200.0)
    flux = np.random.default_rng(seed).normal(size=200) + peak * np.exp(-0.5 * ((x - centre) / width) ** 2)
    line = flux.copy()
    flux[[0, 1, 199]] = wild
    flux[10] = -wild
    low, high = flux_limits((flux, np.ones(200), np.zeros(200, bool)))
    assert line[5:195].max() <= high <= 1.2 * max(line.max(), 4) + 1
    assert -wild < low <= 0


def test_an_outlier_is_no_line():
    flux, error = np.zeros(100), np.ones(100)
    flux[50] = 1000.0
    assert not line_significance(flux, error, np.zeros(100, bool)).any()
    flux[51] = 500.0
    found = line_significance(flux, error, np.zeros(100, bool))
    assert found.nonzero()[0].tolist() == [50, 51]
    assert found[50] == 1000.0


def test_a_rising_blue_continuum_stays_in_the_picture_though_its_errors_grow():
    rise = np.linspace(1.0, 0.0, 400) ** 6
    flux, error = 1.0 + 30.0 * rise, 0.1 + 3.0 * rise
    flux += error * np.random.default_rng(2).normal(size=400)
    assert flux_limits((flux, error, np.zeros(400, bool)))[1] > 0.95 * flux[8:].max()


def test_bright_continuum_is_no_line():
    flux = 100.0 + np.linspace(0, 50, 300) + np.random.default_rng(5).normal(size=300)
    assert not line_significance(flux, np.ones(300), np.zeros(300, bool)).any()


def test_lines_are_marked_at_rest_wavelength_times_one_plus_z(prism):
    top, bottom = draw_single_spectrum(prism, REDSHIFT).axes
    marks = mark_positions(top)
    for rest in LINES_UM.values():
        assert np.min(np.abs(np.array(marks) - rest * (1 + REDSHIFT))) < 1e-4
    assert marks == mark_positions(bottom)
    assert min(marks) > 0.6 and max(marks) < 5.3
    labels = {t.get_text() for t in top.texts}
    assert {"Hα", "[O III]", "Hβ", "[O II]"} <= labels
    assert "Lyα" not in labels  # 0.43 um, not covered
    assert mark_positions(draw_single_spectrum(prism).axes[0]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20), st.floats(0.001, 0.1))
def test_labels_keep_order_and_distance_and_their_mean_place(wanted, gap):
    wanted = np.sort(wanted)
    places = spread(wanted, gap)
    assert np.all(np.diff(places) >= gap - 1e-9)
    assert places.mean() == pytest.approx(wanted.mean(), abs=1e-9)
    if np.all(np.diff(wanted) > gap):
        np.testing.assert_allclose(places, wanted, atol=1e-9)


def test_names_of_lines_are_typeset():
    names = ("[OIII]_5008", "Hgamma", "CIII]_1909", "Heps_3971", "H8_3890", "Paalpha", "[FeII]_12570", "Lya")
    assert [line_title(name) for name in names] == [
        "[O III] 5008",
        "Hγ",
        "C III] 1909",
        "Hε",
        "H8 3890",
        "Paα",
        "[Fe II] 12570",
        "Lyα",
    ]


def test_a_legend_below_the_panels_lies_on_the_page():
    figure = new_figure(3.0)
    axes = figure.subplots()
    for number in range(11):
        axes.plot([0, number], label=f"a method with a long name, number {number}")
    legend_below(figure, [axes])
    figure.draw_without_rendering()
    box = figure.legends[0].get_window_extent()
    assert box.x0 >= 0 and box.x1 <= figure.bbox.x1 and box.y0 >= 0


def test_sharp_lines_leave_the_continuum_in_view():
    flux, good = np.full(300, 1.0), np.zeros(300, bool)
    sharp = np.full(3000, 1.0)
    sharp[1500] = 50.0
    low, high = overview_limits((flux, np.full(300, 0.01), good), sharp)
    assert low <= 0.0 and 1.0 < high < 3.0
    sharp[1500] = 1.5
    assert overview_limits((flux, np.full(300, 0.01), good), sharp)[1] == pytest.approx(1.08 * 1.5)
    assert overview_limits((flux, np.full(300, 0.01), good), np.full(3, np.nan))[1] < 1.2


def test_facts_in_one_line(prism):
    text = facts(prism)
    assert text.startswith("x.fits: PRISM, 706 pixels, 2.8% masked, median S/N 4.98")
    assert "0.600-5.300 um" in text
    assert "\n" not in text


def test_pair_has_the_papers_colours_dashes_and_redshift(prism, gratings):
    figure = draw_galaxy_pair(prism, gratings, REDSHIFT, "galaxy")
    main = figure.axes[0]
    drawn = {line.get_label(): to_hex(line.get_color()) for line in steps(main)}
    assert drawn == {
        "prism": ARM_COLOURS["PRISM"],
        **{name: ARM_COLOURS[name] for name in ("G140M", "G235M", "G395M")},
    }
    assert "z = 2.5000" in figure.get_suptitle()
    dashes = [line for line in main.lines if line.get_gid() == LINE_MARK]
    assert dashes and all(line.get_linestyle() == "--" for line in dashes)
    assert smallest_text(figure) >= 8


def test_pair_is_normalised_to_the_same_line_at_both_resolutions(prism, gratings):
    figure = draw_galaxy_pair(prism, gratings, REDSHIFT, "galaxy")
    main = figure.axes[0]
    line = main.get_ylabel().removeprefix("Flux density / own peak of ")
    at = (1 + REDSHIFT) * LINES_UM[{"Hα": "Halpha", "[O III]": "[OIII]_5008"}[line]]
    peaks = {}
    for drawn in steps(main):
        x, y = drawn.get_xdata(), drawn.get_ydata()
        near = np.abs(x - at) < 0.02
        if near.any():
            peaks[drawn.get_label()] = np.nanmax(y[near])
    assert peaks.pop("prism") == pytest.approx(1.0)
    assert max(peaks.values()) == pytest.approx(1.0, abs=0.35)
    high = main.get_ylim()[1]
    assert high > max(np.nanmax(d.get_ydata()[10:]) for d in steps(main))


def test_pair_magnifies_the_detected_groups(prism, gratings):
    windows = line_windows(prism, gratings, REDSHIFT)
    assert [any(low < rest * 3.5 < high for low, high in windows) for rest in LINES_UM.values()] == [
        True,
        True,
    ]
    figure = draw_galaxy_pair(prism, gratings, REDSHIFT, "galaxy")
    assert [axes.get_xlim() for axes in figure.axes[1:]] == windows
    assert "own peak" in figure.axes[1].get_ylabel()
    assert "1 σ" in figure.legends[0].get_texts()[0].get_text()
    assert "[N II]" in {t.get_text() for axes in figure.axes[1:] for t in axes.texts}


def test_pair_says_what_its_axis_is_and_counts_what_lies_beyond(prism, gratings):
    title = draw_galaxy_pair(prism, gratings, REDSHIFT, "galaxy").get_suptitle()
    assert "prism and gratings each divided by their own peak of" in title
    assert "good pixels beyond the axis: 3 (triangles)" in title  # the wild pixels of the fixture
    calm = draw_galaxy_pair(arm("PRISM", 0.6, 5.3, 706, wild=False), gratings, REDSHIFT, "galaxy")
    assert "triangles" not in calm.get_suptitle()


def test_pair_with_one_grating_and_without_lines(prism, gratings):
    flat = [s.replace(flux=np.where(np.arange(len(s)) % 2, 1e-22, -1e-22)) for s in (prism, gratings[1])]
    figure = draw_galaxy_pair(flat[0], flat[1:], REDSHIFT, "nothing")
    assert len(figure.axes) == 1
    assert figure.axes[0].get_ylabel() == "Flux density / own median"


def test_stitching_shows_scales_with_errors_overlaps_and_smaller_residuals(gratings):
    stitched = stitch(gratings, UnifiedGrid())
    figure = draw_stitching(gratings, stitched, REDSHIFT, "galaxy")
    before, after, *panels = figure.axes
    labels = [t.get_text() for t in after.get_legend().get_texts()]
    overlap = stitched.overlaps["G235M", "G395M"]
    assert labels[1] == "G235M: reference"
    assert labels[2] == f"G395M × {stitched.scales['G395M']:.3f} ± {overlap.scale_error:.3f}"
    assert abs(stitched.scales["G395M"] * 1.2 - 1) < 0.1  # the injected scale
    spans = sorted((p.get_x(), p.get_x() + p.get_width()) for p in before.patches)
    wanted = sorted([*((o.low, o.high) for o in stitched.overlaps.values()), *HAND_OVERS.values()])
    np.testing.assert_allclose(spans, wanted, rtol=1e-9)
    for axes in (before, after):
        dotted = sorted(line.get_xdata()[0] for line in axes.lines if line.get_linestyle() == ":")
        np.testing.assert_allclose(dotted, sorted(stitched.seams))
    assert "correlation of 0.42" in figure.get_suptitle()
    for residual in panels[1::2]:
        rms = [np.sqrt(np.mean(line.get_ydata() ** 2)) for line in residual.lines if line.get_marker() == "o"]
        assert rms[1] < rms[0]
    assert smallest_text(figure) >= 8


def test_stitching_of_one_arm_says_so(gratings):
    figure = draw_stitching(gratings[1:2], stitch(gratings[1:2]), float("nan"), "lonely")
    assert "one grating: no overlap" in figure.get_suptitle()
    assert len(figure.axes) == 1  # a scaled one would repeat it
    assert mark_positions(figure.axes[0]) == []


def test_every_stitched_pixel_is_drawn_from_the_arms_that_made_it(gratings):
    stitched = stitch(gratings, UnifiedGrid())
    used = contributions(stitched)
    assert np.array_equal(np.any(list(used.values()), axis=0), ~stitched.mask)
    for name, (flux, _, _) in stitched.segments.items():
        alone = used[name] & (np.sum(list(used.values()), axis=0) == 1)
        np.testing.assert_allclose(stitched.flux[alone], flux[alone], rtol=1e-12)
        assert alone.sum() > 500
    low, high = HAND_OVERS["G235M", "G395M"]
    assert not used["G395M"][stitched.wavelength < low].any()
    assert not used["G235M"][stitched.wavelength > high].any()


def test_legends_of_the_overlaps_lie_outside_the_data(gratings):
    figure = draw_stitching(gratings, stitch(gratings, UnifiedGrid()), REDSHIFT, "galaxy")
    figure.draw_without_rendering()
    for view in figure.axes[2::2]:
        assert view.get_legend().get_window_extent().y0 >= view.get_window_extent().y1


def test_means_keep_flux_and_shrink_errors():
    wavelength = np.linspace(1.0, 1.1, 400)
    segment = (np.full(400, 3.0), np.full(400, 2.0), np.zeros(400, bool))
    x, y, e = binned(wavelength, segment, np.ones(400, bool))
    assert x.size == 10 and np.all(y == 3.0)
    np.testing.assert_allclose(e, 2.0 / np.sqrt(40) * np.sqrt(1.84))  # 1 + 2 x 0.42
    np.testing.assert_allclose(
        binned(wavelength, segment, np.ones(400, bool), 4.0)[2], 2.0 / np.sqrt(10) * np.sqrt(1.84)
    )


def test_errors_of_means_match_the_scatter_of_correlated_noise():
    rng = np.random.default_rng(7)
    white = rng.normal(size=40001)
    weight = 0.35256  # w (1 - w) / (w^2 + (1 - w)^2) = 0.42 between neighbours
    noise = weight * white[1:] + (1 - weight) * white[:-1]
    noise /= noise.std()
    _, means, errors = binned(np.arange(40000.0), (noise, np.ones(40000), None), np.ones(40000, bool))
    assert 0.94 < means.std() / errors.mean() < 1.06


def test_pictures_are_png_written_whole(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"expected a name that ends in \.png"):
        save_picture(new_figure(2.0), tmp_path / "a.pdf")

    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("matplotlib.backends.backend_agg.FigureCanvasAgg.print_figure", stop)
    with pytest.raises(KeyboardInterrupt):
        save_picture(new_figure(2.0), tmp_path / "a.png")
    assert list(tmp_path.iterdir()) == []
