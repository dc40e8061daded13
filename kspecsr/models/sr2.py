"""Third stage: lines and a smooth continuum correction (paper section 3.3; docs/design.md, networks)."""

import keras
from keras import ops

from kspecsr.configuration import ModelConfig, SR2Config
from kspecsr.layers import broad_lines, line_posterior, line_tokens, operators, refinement
from kspecsr.layers import lines as line_layers
from kspecsr.layers.direct_line_fit import DirectLineFit
from kspecsr.layers.geometry import plain_grid
from kspecsr.layers.prism_channels import BrightestPixel, Divide, Multiply
from kspecsr.models.sr1 import normalised, number_input, observed, prism_inputs, residual_block, sr1_inputs

_PRISM_SPACING = 0.5  # prism pixels between samples of a window
_GRID_SPACING = 1.0  # pixels of the unified grid


def attended_tokens(sr2: SR2Config, prism, sr1_flux, sr1_error, places, fit, redshift):
    """(B, K, D) line tokens that have seen each other; the first stage in units of the scale."""
    tokens = _tokens(sr2, prism, sr1_flux, sr1_error, places, fit, redshift)
    attends = line_tokens.LinesAttend(name="attends", dtype="float32")(places["in_range"])
    for layer in range(sr2.layers):
        tokens = _attention_block(tokens, attends, sr2.heads, sr2.dropout, f"attention{layer}")
    return keras.layers.RMSNormalization(name="token_norm")(tokens)


def information(sr2: SR2Config, prism, places, fit, redshift, redshift_error, broad=None):
    """What the prism says about all lines together: output of `LineInformation`.

    With broad components where the output of `BroadWidth` is given.
    """
    layer = broad_lines.BroadLineInformation if broad else line_posterior.LineInformation
    return layer(sr2.knots, sr2.stellar_absorption, name="information", dtype="float32")(
        *observed(prism),
        *(fit[name] for name in ("flux", "model")),
        *(places[name] for name in ("wavelength", "prism_sigma", "in_range")),
        redshift,
        redshift_error / (1.0 + redshift),
        *([broad[name] for name in ("velocity", "doubt")] if broad else []),
    )


def broad_width(tokens, in_range, small_head):
    """Output of `BroadWidth`, from the tokens (B, K, D) of the lines in range."""
    float32 = {"dtype": "float32"}
    x = keras.layers.Dense(64, activation="elu", name="broad_dense", **float32)(tokens)
    x = broad_lines.PooledTokens(name="broad_pooling", **float32)(x, in_range)
    x = keras.layers.Dense(64, activation="elu", name="broad_pooled", **float32)(x)
    raw = keras.layers.Dense(3, name="broad_head", **small_head)(x)
    return broad_lines.BroadWidth(name="broad_width", **float32)(raw)


def _line_branch(sr2: SR2Config, prism, sr1_flux, sr1_error, places, fit, redshift, redshift_error):
    """From line tokens to the output of the decoder, the first stage in units of the scale.

    Also that of `LineInformation` and `LinePosterior`, empty where lines have independent errors.
    """
    tokens = attended_tokens(sr2, prism, sr1_flux, sr1_error, places, fit, redshift)
    small_head = {"kernel_initializer": keras.initializers.VarianceScaling(0.05), "dtype": "float32"}
    raw = keras.layers.Dense(line_tokens.HEADS, name="line_heads", **small_head)(tokens)
    votes = keras.layers.Dense(2, name="shift_votes", **small_head)(tokens)
    shift = line_tokens.CommonShift(name="common_shift", dtype="float32")(votes, places["in_range"])
    options = (sr2.direct_fit, sr2.velocity_shift, sr2.line_shift, sr2.max_velocity_sigma)
    where = [places[name] for name in ("wavelength", "reference_sigma", "in_range")]
    where.append(redshift_error / (1.0 + redshift))
    if sr2.line_errors != "joint":
        decoder = line_tokens.LineDecoder(*options, name="decoder", dtype="float32")
        return decoder(raw, shift, *(fit[name] for name in ("flux", "error", "isolated_error")), *where), {}
    broad = broad_width(tokens, places["in_range"], small_head) if sr2.broad_lines else {}
    velocity = [broad["log_velocity"]] if broad else []
    found = information(sr2, prism, places, fit, redshift, redshift_error, broad)
    free = posterior(tokens, found, small_head, sr2.broad_lines)
    names = ("mean", "covariance", "prior_weight")
    layer = broad_lines.BroadLineDecoder if broad else line_posterior.JointLineDecoder
    decoder = layer(*options, name="decoder", dtype="float32")
    lines = decoder(raw, shift, *(free[name] for name in names), found["unit"], *where, *velocity)
    return lines, {**found, **free, **{f"broad_{name}": value for name, value in broad.items()}}


def posterior(tokens, found, small_head, broad):
    """Output of `LinePosterior`, from the tokens of the lines that free fluxes are of.

    ``found`` is that of `information`; with ``broad``, of broad fluxes too.
    """
    leaders = [line_posterior.free_fluxes(tokens.shape[1])[1]]
    if broad:
        leaders.append(broad_lines.broad_fluxes(tokens.shape[1]).argmax(axis=0))
    raw = [
        keras.layers.Dense(line_posterior.HEADS, name=name, **small_head)(ops.take(tokens, rows, axis=1))
        for name, rows in zip(("posterior_heads", "broad_heads"), leaders, strict=False)
    ]
    return line_posterior.LinePosterior(name="posterior", dtype="float32")(
        raw[0] if len(raw) == 1 else ops.concatenate(raw, axis=1),
        *(found[name] for name in line_posterior.INFORMATION),
    )


def _tokens(sr2: SR2Config, prism, sr1_flux, sr1_error, places, fit, redshift):
    """(B, K, D) windows through a small network, numbers through a dense layer, and the line's identity."""
    base = fit["continuum"] if sr2.direct_fit else prism["flux"]
    model = fit["model"] if sr2.direct_fit else prism["flux"]
    on_prism, on_grid = line_tokens.WindowChannels(name="window_channels", dtype="float32")(
        *observed(prism), base, model, sr1_flux, sr1_error
    )
    windows = [
        line_layers.LineWindows(sr2.half_width, spacing, name=f"{name}_windows", dtype="float32")(
            channels, places[f"{name}_pixel"]
        )
        for name, spacing, channels in (("prism", _PRISM_SPACING, on_prism), ("grid", _GRID_SPACING, on_grid))
    ]
    # Both windows have the same number of samples but not the same reach: the prism's is a line and its
    # neighbours, the grid's the line itself as SR1 sees it.
    windows = keras.layers.Concatenate(name="windows", dtype="float32")(windows)  # (B, K, window, channels)
    lines, window, channels = windows.shape[1:]
    x = keras.layers.Reshape((lines * window, channels), name="window_rows")(windows)
    x = keras.layers.Dense(sr2.window_channels, name="window_projection")(x)
    # All lines of all spectra become one batch, so that one convolution serves all lines; what line it is
    # comes with the identity.
    x = ops.reshape(x, (-1, window, sr2.window_channels))  # (B K, window, channels)
    for layer in range(2):
        x = keras.layers.Conv1D(
            sr2.window_channels, 3, padding="same", activation=sr2.activation, name=f"window_conv{layer}"
        )(x)
    x = line_layers.MultiScalePooling(name="window_pooling")(x)
    x = keras.layers.Dense(sr2.token_dim, activation=sr2.activation, name="window_dense")(x)
    x = ops.reshape(x, (-1, lines, sr2.token_dim))  # (B, K, D)
    scalars = line_tokens.LineScalars(sr2.direct_fit, name="scalars", dtype="float32")(
        *(fit[name] for name in ("flux", "error", "isolated_error")),
        *(places[name] for name in ("prism_pixel", "wavelength", "in_range")),
        redshift,
    )
    y = keras.layers.Dense(sr2.token_dim, activation=sr2.activation, name="scalar_dense")(scalars)
    tokens = keras.layers.Add(name="tokens")([x, keras.layers.Dense(sr2.token_dim, name="scalar_token")(y)])
    return line_tokens.LineIdentity(name="identity")(tokens)


_ALONE, _TOTAL = ("flux", "flux_error"), ("total", "total_error")
_PARTS = {
    "narrow_flux": "flux",
    "narrow_flux_error": "flux_error",
    "broad_flux": "broad",
    "broad_flux_error": "broad_error",
}
_BROAD = ("broad_logit", "broad_log_velocity", "broad_log_sigma")
_AS_DECODED = ("mean", "sigma", "logit", "presence", "prior_weight", "wavelength", "correlation")


def build_sr2(config: ModelConfig) -> keras.Model:
    """Build the third stage.

    Args:
        config: grid and third stage.

    Returns:
        Functional model from the prism, ``sr1_flux``, ``sr1_error``, ``redshift`` and ``redshift_error`` to a
        dictionary, flux densities in 1e-20 erg/s/cm2/A and line fluxes in 1e-20 erg/s/cm2: ``flux``,
        ``flux_error``, ``continuum``, ``continuum_error`` (``flux_error`` without the part of the lines)
        (B, N); ``line_flux``, ``line_flux_error``, ``line_presence``, ``line_wavelength``, ``line_fwhm``
        [um], ``line_equivalent_width`` [Angstrom], ``line_in_range``, ``line_prior_weight`` (B, K);
        ``chi_square`` (B,), ``prism_model`` (B, P). Losses need besides:
        ``line_mean`` and ``line_sigma`` of arcsinh(line flux / ``line_unit``), ``line_logit`` (B, K),
        ``line_mask`` and ``amplitude`` (B, N), ``prism_seen`` (B, P), ``common_shift`` (B,), of all lines as
        a fraction of the wavelength. With joint line errors there are ``line_correlation`` (B, K, K), and in
        place of ``line_mean`` and ``line_sigma``: ``free_mean``, ``free_unit``, ``free_in_range`` (B, F) and
        ``free_covariance`` (B, F, F) of `LinePosterior`. With broad components ``line_flux`` is the total of
        a line; ``line_narrow_flux``, ``line_broad_flux`` (B, K) and their errors are its parts, and
        ``broad_logit``, ``broad_log_velocity``, ``broad_log_sigma`` (B,) are of `BroadWidth`.
    """
    sr2, grid = config.sr2, plain_grid(config.grid)
    inputs = {
        **prism_inputs(),
        **sr1_inputs(config),
        "redshift": number_input("redshift"),
        "redshift_error": number_input("redshift_error"),
    }
    multiply = Multiply(name="multiply", dtype="float32")
    prism, sr1_flux, sr1_error = _scaled(inputs)
    places, fit = direct_fit(sr2, grid, prism, inputs["redshift"], multiply, config.lines)
    redshifts = (inputs["redshift"], inputs["redshift_error"])
    lines, free = _line_branch(sr2, prism, sr1_flux, sr1_error, places, fit, *redshifts)
    line_mask = line_layers.LineMask(grid, name="line_mask", dtype="float32")(
        *(places[name] for name in ("grid_pixel", "wavelength", "reference_sigma", "in_range")), *redshifts
    )
    drawn, line_variance = line_layers.LineRendering(grid, name="rendering", dtype="float32")(
        *_components(lines, places["in_range"])
    )
    degradation = operators.PrismDegradation(grid, name="degradation", dtype="float32")
    smooth, amplitude = _continuum_branch(sr2, grid, prism, fit, degradation, sr1_flux, sr1_error)
    brightest = BrightestPixel(name="brightest", dtype="float32")(*observed(prism)[:3])
    flux, error, continuum, continuum_error = refinement.Refinement(
        sr2.residual_cap, name="refinement", dtype="float32"
    )(sr1_flux, smooth, amplitude, drawn, line_variance, brightest)
    model = degradation(flux)
    chi_square, seen = operators.PrismConsistency(grid, name="consistency", dtype="float32")(
        *observed(prism)[:3], model
    )
    line_fluxes = _line_fluxes(lines, free, fit)
    line_places = (places[name] for name in ("grid_pixel", "in_range"))
    width = line_layers.EquivalentWidth(name="equivalent_width", dtype="float32")(
        line_fluxes["line_flux"], continuum, error, *line_places, inputs["redshift"]
    )
    fwhm = line_layers.Fwhm(grid, name="fwhm", dtype="float32")
    in_units = {
        "flux": flux,
        "flux_error": error,
        "continuum": continuum,
        "continuum_error": continuum_error,
        "prism_model": model,
        "amplitude": amplitude,
        **line_fluxes,
    }
    outputs = {
        **{name: multiply(value, prism["scale"]) for name, value in in_units.items()},
        "chi_square": chi_square,
        "common_shift": lines["shift"],
        "prism_seen": seen,
        "line_mask": line_mask,
        "line_fwhm": fwhm(lines["width"], lines["wavelength"]),
        "line_equivalent_width": width,
        "line_in_range": places["in_range"],
        **{f"line_{name}": lines[name] for name in _AS_DECODED if name in lines},
        **{f"free_{name}": free[name] for name in ("mean", "covariance", "in_range") if free},
        **{name: free[name] for name in _BROAD if name in free},
    }
    return keras.Model(inputs, outputs, name="sr2")


def _line_fluxes(lines, free, fit):
    """Line fluxes and their units, by the names that they are put out under."""
    names = _TOTAL if "total" in lines else _ALONE
    fluxes = dict(zip(("line_flux", "line_flux_error"), (lines[name] for name in names), strict=True))
    fluxes["line_unit"] = fit["isolated_error"]
    if free:
        fluxes["free_unit"] = free["unit"]
    if "total" in lines:
        fluxes |= {f"line_{name}": lines[part] for name, part in _PARTS.items()}
    return fluxes


def _components(lines, in_range):
    """Inputs of `LineRendering`: every line, and then the broad components."""
    parts = [lines[name] for name in ("flux", "spread", "place_error", "wavelength", "width")] + [in_range]
    if "broad" not in lines:
        return parts
    rows = broad_lines.broad_lines(in_range.shape[1])
    broad = [lines[name] for name in ("broad", "broad_error", "place_error", "wavelength")] + [in_range]
    flux, error, place_error, wavelength, seen = (ops.take(value, rows, axis=1) for value in broad)
    second = (flux, error, place_error, wavelength, lines["broad_width"], seen)
    return [ops.concatenate(pair, axis=1) for pair in zip(parts, second, strict=True)]


def _scaled(inputs):
    """Normalised prism, and the first stage's flux and error in units of its scale."""
    prism = normalised(inputs)
    divide = Divide(name="divide", dtype="float32")
    return prism, *(divide(inputs[name], prism["scale"]) for name in ("sr1_flux", "sr1_error"))


def direct_fit(sr2: SR2Config, grid, prism, redshift, multiply, lines="first"):
    """Positions of the lines of a list, and the least-squares fit to them.

    Lines in a gap, or beyond the end of the data, count as out of range.
    """
    places = line_layers.LinePositions(grid, lines, name="positions", dtype="float32")(redshift)
    fit = DirectLineFit(sr2.knots, sr2.stellar_absorption, name="direct_fit", dtype="float32")(
        *observed(prism), places["wavelength"], places["prism_sigma"], places["in_range"], redshift
    )
    return {**places, "in_range": multiply(places["in_range"], fit["constrained"])}, fit


def _continuum_branch(sr2: SR2Config, grid, prism, fit, degradation, sr1_flux, sr1_error):
    """Shallow residual convolutions on the prism's pixels; skips scaled by 0.5 (paper section 3.3).

    Returns:
        Proposed continuum, logit of the share that it takes, log sigma (B, N, 3); amplitude (B, N).
    """
    base = fit["continuum"] if sr2.direct_fit else prism["flux"]
    x = refinement.ContinuumChannels(name="continuum_channels", dtype="float32")(
        *observed(prism),
        base,
        fit["model"] if sr2.direct_fit else base,
        fit["line_mask"],
        degradation(sr1_flux),
        degradation(sr1_error),
    )
    x = keras.layers.Conv1D(
        sr2.continuum_channels, sr2.continuum_kernel, padding="same", name="continuum_projection"
    )(x)
    for block in range(sr2.continuum_blocks):
        x = residual_block(
            x,
            sr2.continuum_kernel,
            sr2.activation,
            sr2.dropout,
            f"continuum{block}",
            dilation=2 ** (block % 3),
            scale=0.5,
        )
    x = keras.layers.Activation(sr2.activation, name="continuum_activation")(x)
    small = keras.initializers.VarianceScaling(0.05)
    raw = keras.layers.Dense(3, kernel_initializer=small, dtype="float32", name="continuum_output")(x)
    x = refinement.SmoothContinuum(name="smooth_continuum", dtype="float32")(
        raw, base, prism["amplitude"], fit["line_mask"]
    )
    # Continuum, share, error and amplitude go to the grid together, in one product.
    x = operators.Upsampling(grid, name="continuum_upsampling", dtype="float32")(x)  # (B, N, 4)
    # A cubic can undershoot beside a bright line, and an amplitude of 0 or less would divide losses by it.
    return x[..., :3], ops.maximum(x[..., 3], 1e-4)


def _attention_block(tokens, attends, heads: int, dropout: float, name: str):
    """Self-attention of tokens (B, K, D) and a pointwise network, normalised before each, with skips.

    ``attends`` (B, 1, K) is True for lines that may be looked at.
    """
    dim = tokens.shape[-1]
    y = keras.layers.RMSNormalization(name=f"{name}_norm1")(tokens)
    # A spectrum without any line in range has masked keys alone: its softmax is even, and what comes of it is
    # multiplied by 0 in the end.
    y = keras.layers.MultiHeadAttention(heads, dim // heads, dropout=dropout, name=f"{name}_attention")(
        y, y, attention_mask=attends
    )
    tokens = keras.layers.Add(name=f"{name}_add1")([tokens, y])
    y = keras.layers.RMSNormalization(name=f"{name}_norm2")(tokens)
    y = keras.layers.Dense(3 * dim, activation="gelu", name=f"{name}_dense1")(y)
    y = keras.layers.Dropout(dropout, name=f"{name}_dropout")(y)
    y = keras.layers.Dense(dim, name=f"{name}_dense2")(y)
    return keras.layers.Add(name=f"{name}_add2")([tokens, y])
