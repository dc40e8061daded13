"""The five signatures of a served model: names, shapes, units. Needs no TensorFlow."""

import json
from dataclasses import dataclass

import numpy as np

from data_pipeline.configuration import to_dict
from data_pipeline.pixel_grid import UnifiedGrid
from kspecsr.results.data import ModelIdentity
from kspecsr.results.lines import BROAD_COLUMNS, LINE_COLUMNS, LINE_FLUX_UNIT, LineMeasurements

FLUX_DENSITY = "erg/s/cm2/A"
LINE_FLUX = "erg/s/cm2"


@dataclass(frozen=True)
class Array:
    """One named input or output; the first axis is the batch.

    Attributes:
        dtype: type of the values, as TensorFlow names it.
        axis: ``P`` prism pixels, ``n`` pixels of the caller, ``N`` output pixels, ``K`` lines, ``Z`` redshift
            bins, ``C`` classes, or several of them; empty for one value per spectrum.
        unit: unit of the values; empty for none.
        meaning: description for the README of an export.
        optional: not of every model.
    """

    dtype: str
    axis: str
    unit: str
    meaning: str
    optional: bool = False

    @property
    def shape(self) -> str:
        """Such as ``(B, N)``."""
        return f"(B, {self.axis})" if self.axis else "(B,)"


@dataclass(frozen=True)
class Signature:
    """One of the calls that a served model answers.

    Attributes:
        meaning: description for the README of an export.
        inputs: arrays by name.
        outputs: arrays by name.
    """

    meaning: str
    inputs: dict[str, Array]
    outputs: dict[str, Array]


_PRISM_INPUTS = {
    # Physical units, not those of the records: whoever calls an endpoint knows only the files of a telescope.
    "flux": Array("float32", "P", FLUX_DENSITY, "flux density; not finite: no data"),
    "error": Array("float32", "P", FLUX_DENSITY, "one sigma; not positive or not finite: no data"),
    "mask": Array("bool", "P", "", "true: no data"),
}
_GIVEN_INPUTS = {
    **_PRISM_INPUTS,
    "redshift": Array("float32", "", "", "0 or more; NaN: to be inferred"),
}
_OPEN = "; only of models that know more than galaxies"
_REDSHIFT_OUTPUTS = {
    "redshift": Array("float32", "", "", "at which lines are placed; NaN without coverage"),
    "redshift_error": Array("float32", "", "", "one sigma of its mode; 0 where it was given"),
    "redshift_confidence": Array("float32", "", "", "mass of its mode within 0.01 (1 + z)"),
    "redshift_probability": Array("float32", "Z", "", "probability of each bin of ln(1 + z), from z = 0"),
    "redshift_none": Array(
        "float32", "", "", "probability that there is none, which takes its share of the mass" + _OPEN, True
    ),
    "class_probability": Array("float32", "C", "", "probability of each class" + _OPEN, True),
    # Bits rather than one code: several causes may hold at once.
    "status": Array("int32", "", "", "bits; 0: all is well, and lines are reported"),
    # With every answer, not in a call of its own: a server may load a new version between two calls.
    "model": Array("string", "", "", "which model answers, as JSON: name, SHA-256 of its weights, grids"),
}
_UNREPORTED = "; NaN out of range, and where status is not 0"
_LINE_OUTPUTS = {
    f"line_{one.attribute}": Array(
        "bool" if one.attribute == "in_range" else "float32",
        "K",
        LINE_FLUX if one.unit == LINE_FLUX_UNIT else one.unit,
        one.meaning + (_UNREPORTED if one.attribute == "flux" else ""),
    )
    for one in LINE_COLUMNS.values()
    if one.attribute in LineMeasurements.__dataclass_fields__
}
_LINE_OUTPUTS["line_correlation"] = Array(
    "float32", "K, K", "", "of the errors; only of models that state it; NaN as the fluxes", optional=True
)
_OF_BROAD = "; only of models with broad lines"
_LINE_OUTPUTS |= {
    f"line_{one.attribute}": Array("float32", "K", LINE_FLUX, one.meaning + _OF_BROAD, optional=True)
    for one in BROAD_COLUMNS.values()
    if one.unit == LINE_FLUX_UNIT
}
_SPECTRUM_OUTPUTS = {
    "flux": Array("float32", "N", FLUX_DENSITY, "super-resolved; NaN where there is no data"),
    "flux_error": Array("float32", "N", FLUX_DENSITY, "one sigma"),
    "continuum": Array("float32", "N", FLUX_DENSITY, "without lines; NaN where status is not 0"),
    "sr1_flux": Array("float32", "N", FLUX_DENSITY, "of the first stage, which knows no redshift"),
    "sr1_error": Array("float32", "N", FLUX_DENSITY, "one sigma"),
    **_LINE_OUTPUTS,
    "chi_square": Array("float32", "", "", "degraded output against input, per good prism pixel"),
    "fit_probability": Array(
        "float32",
        "",
        "",
        "share of simulated spectra that fit worse; only of models that were calibrated for it",
        optional=True,
    ),
    "broad_probability": Array("float32", "", "", "chance of broad components" + _OF_BROAD, True),
    "broad_fwhm": Array("float32", "", "km/s", "width of all of them" + _OF_BROAD, True),
    "broad_fwhm_error": Array("float32", "", "km/s", "one sigma" + _OF_BROAD, True),
    "prism_model": Array("float32", "P", FLUX_DENSITY, "the output degraded to the prism"),
}
_RESAMPLED_OUTPUTS = {
    "prism_flux": Array("float32", "P", FLUX_DENSITY, "what the networks saw; 0 where masked"),
    "prism_error": Array("float32", "P", FLUX_DENSITY, "one sigma"),
    "prism_mask": Array("bool", "P", "", "true: no data"),
}
_ALL = {**_SPECTRUM_OUTPUTS, **_REDSHIFT_OUTPUTS}

SERVING_DEFAULT = "serving_default"
FROM_WAVELENGTH = "from_wavelength"
WITH_REDSHIFT = "with_redshift"
KEEP_FLAGGED = "keep_flagged"
CLASSIFY_REDSHIFT = "classify_redshift"

SIGNATURES = {
    SERVING_DEFAULT: Signature("spectra on the prism's own pixels", _PRISM_INPUTS, _ALL),
    WITH_REDSHIFT: Signature("the same at redshifts that are known", _GIVEN_INPUTS, _ALL),
    KEEP_FLAGGED: Signature(
        "the same with the lines of flagged spectra, where they have a redshift", _GIVEN_INPUTS, _ALL
    ),
    FROM_WAVELENGTH: Signature(
        "prism spectra on any pixels, resampled in the graph",
        {
            "wavelength": Array(
                "float64", "n", "um", "pixel centres, vacuum, rising or falling; NaN: no pixel"
            ),
            "flux": Array("float64", "n", FLUX_DENSITY, "flux density; not finite: no data"),
            "error": Array("float64", "n", FLUX_DENSITY, "one sigma; not positive or not finite: no data"),
        },
        {**_ALL, **_RESAMPLED_OUTPUTS},
    ),
    # A call of its own: who only wants redshifts does not pay for the spectra.
    CLASSIFY_REDSHIFT: Signature("P(z) alone, without the last stage", _PRISM_INPUTS, _REDSHIFT_OUTPUTS),
}


def identity_text(identity: ModelIdentity, bins: np.ndarray) -> str:
    """The output ``model``: identity and redshift bins as one line of JSON.

    Args:
        identity: name, hash, grid and software of the model.
        bins: (Z,) ln(1 + z) of P(z), evenly spaced from 0.
    """
    content = {
        "name": identity.name,
        "sha256": identity.sha256,
        "grid": to_dict(identity.grid),
        # Evenly spaced from 0 (`ZHeadConfig`), so that two numbers stand for thousands of bins.
        "redshift_bins": {"step": float(bins[1] - bins[0]), "count": int(bins.size)},
        "software": dict(identity.software),
        # left out as by exports of before there was a second list
        **({"lines": identity.lines} if identity.lines != "first" else {}),
    }
    return json.dumps(content)


def parse_identity(text: str | bytes) -> tuple[ModelIdentity, np.ndarray]:
    """The reverse of `identity_text`.

    Raises:
        ValueError: for a text of another kind.
    """
    try:
        content = json.loads(text)
        bins = np.arange(int(content["redshift_bins"]["count"])) * float(content["redshift_bins"]["step"])
        grid = UnifiedGrid(**content["grid"])
        lines = content.get("lines", "first")
        identity = ModelIdentity(content["name"], content["sha256"], grid, content["software"], lines)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"the endpoint's output 'model' is no description of a kspecsr model ({error!r}): "
            f"{str(text)[:80]}; expected a model that kspecsr export wrote"
        ) from None
    return identity, bins
