"""Which light goes with a galaxy's lines: star-formation history, metallicity, dust, mixture of templates."""

import numpy as np

from data_pipeline.simulation.attenuation import attenuation, cardelli
from data_pipeline.simulation.config import POST_STARBURST, QUIESCENT
from data_pipeline.simulation.continua import TEMPLATES, Continua
from data_pipeline.simulation.nuclei import HBETA
from data_pipeline.simulation.stars import StellarContinua, choose_histories, nebular_at_hbeta
from data_pipeline.stellar_library import load_library


def stellar_continua(
    kind, dot, redshift, level, hbeta, reddening, narrow, nuclei, lines, draws
) -> StellarContinua:
    """Stars whose age goes with the equivalent width of Hbeta and whose metallicity goes with [N II]."""
    library, size = load_library(), kind.size
    passive = (kind == QUIESCENT) | (kind == POST_STARBURST)
    # gas is redder than stars by a factor of its own per galaxy
    stars = reddening * (0.3 + 0.7 * draws.uniform("stellar share of the reddening"))
    slope = np.clip(-0.15 + 0.25 * draws.normal("attenuation slope"), -0.7, 0.4)
    bump = 4.0 * draws.uniform("attenuation bump") ** 2
    ratio = narrow[:, lines.index("[NII]_6585")] / narrow[:, lines.index("Halpha")]
    # Pettini & Pagel (2004), solar 12 + log(O/H) = 8.69; iron, which makes the stars' lines, lags behind
    log_z = 8.90 + 0.57 * np.log10(np.maximum(ratio, 1e-3)) - 8.69 - 0.15 + 0.2 * draws.normal("metallicity")
    log_z = np.where(passive, 0.35 * draws.normal("passive metallicity") - 0.1, log_z)
    metallicity = np.abs(log_z[:, None] - np.log10(library.metallicity)).argmin(axis=1)

    gas_level = hbeta * nebular_at_hbeta()[metallicity] / (1.0 + redshift)
    star_level = np.where(level > 0, np.maximum(level - gas_level, 0.1 * level), 0.0)
    curve = np.array([float(attenuation(np.array(HBETA), s, b)) for s, b in zip(slope, bump, strict=True)])
    depth = 0.4 * (reddening * float(cardelli(np.array(HBETA))) - stars * curve)
    with np.errstate(divide="ignore", invalid="ignore"):
        width = np.log10(hbeta / (star_level * (1.0 + redshift))) + depth
    width = np.where(np.isfinite(width), width, 0.0)
    uniform = draws.uniform("star-formation history")
    weights = np.zeros((size, library.age_edges.size - 1))
    for history, rows in (
        ("forming", ~passive),
        ("quiescent", kind == QUIESCENT),
        ("post-starburst", kind == POST_STARBURST),
    ):
        weights[rows] = choose_histories(
            history, redshift[rows], metallicity[rows], width[rows], uniform[rows]
        )
    dispersion = np.clip(10.0 ** (1.9 + 0.2 * draws.normal("stellar dispersion")), 40.0, 350.0)
    column = 20.3 + 0.12 * np.maximum(redshift - 5.0, 0.0) + 0.8 * draws.normal("column")
    # a little red dot: a cool envelope with a Balmer break beside few young stars
    envelope = np.where(dot, level, 0.0)
    return StellarContinua(
        level=np.where(dot, (0.03 + 0.2 * draws.uniform("stars of little red dots")) * level, star_level),
        metallicity=metallicity,
        weights=weights,
        dispersion=np.where(passive, 2.0 * dispersion, dispersion),
        hbeta=hbeta,
        gas_reddening=reddening,
        reddening=np.where(dot, 0.0, stars),
        slope=slope,
        bump=bump,
        envelope=envelope,
        temperature=3800.0 + 2200.0 * draws.uniform("envelope temperature"),
        balmer_break=0.6 * draws.uniform("envelope break"),
        nuclei=nuclei,
        column=np.where(redshift > 4.5, np.clip(column, 18.0, 22.7), 18.0),
    )


def template_continua(kind, dot, redshift, width, level, reddening, narrow, lines, draws) -> Continua:
    """Mixtures of templates: the larger the equivalent width, the younger and the more nebular."""
    hbeta_width = 10.0**width / (
        narrow[:, lines.index("[OIII]_5008")] + narrow[:, lines.index("[OIII]_4960")] + 1.0
    )
    nebular = np.minimum(hbeta_width / 1100.0, 0.6)
    middle = np.clip(0.45 - 0.40 * (width - 2.0) + 0.15 * draws.normal("intermediate stars"), 0.02, 0.75)
    old = np.clip(0.20 - 0.25 * (width - 1.8) + 0.10 * draws.normal("old stars"), 0.0, 0.45)
    share = np.stack([1.0 - middle - old, middle, old], axis=1).clip(0.05)
    share *= ((1.0 - nebular) / share.sum(axis=1))[:, None]
    weights = np.zeros((kind.size, len(TEMPLATES)))
    weights[:, :3], weights[:, 3] = share, nebular

    mix = draws.uniform("passive mixture", 2)
    blue = np.where(mix[:, 1] < 0.5, 0.0, 0.08 * mix[:, 0])
    weights[kind == QUIESCENT] = np.stack(
        [blue, 0.35 * mix[:, 0], 1 - blue - 0.35 * mix[:, 0], 0 * blue, 0 * blue], axis=1
    )[kind == QUIESCENT]
    old_part = 0.25 * mix[:, 0]
    weights[kind == POST_STARBURST] = np.stack(
        [0.3 * blue, 1 - old_part - 0.3 * blue, old_part, 0 * blue, 0 * blue], axis=1
    )[kind == POST_STARBURST]
    young = 0.06 + 0.25 * mix[:, 1]
    weights[dot] = np.stack([young, 0 * young, 0 * young, 0 * young, 1 - young], axis=1)[dot]

    stars = 0.44 * reddening * np.exp(0.3 * draws.normal("stellar reddening"))
    column = 20.3 + 0.12 * np.maximum(redshift - 5.0, 0.0) + 0.8 * draws.normal("column")
    return Continua(
        level=level,
        weights=weights,
        reddening=np.where(dot, 0.0, stars),
        tilt=0.2 * draws.normal("tilt"),
        column=np.where(redshift > 4.5, np.clip(column, 18.0, 22.7), 18.0),
    )
