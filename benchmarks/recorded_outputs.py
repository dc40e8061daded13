"""Outputs of the shipped weights, recorded and compared.

A change of the code that is not meant to change what the model says must leave them as they were: through
Python, through a fresh export and through the survey.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

EXAMPLES = """examples:
  python benchmarks/recorded_outputs.py record runs/recorded.npz --real ../shared/real_spectra
  python benchmarks/recorded_outputs.py compare runs/recorded.npz

A recording holds its own inputs. Fluxes, redshifts and line fluxes are compared in units of their stated
errors; all else in units of its own size (P(z): of its peak). Exit status: 0 the same, 1 not.
"""
SEED, SIMULATED = 20261129, 40
WAYS = ("python", "export", "survey")
Arrays = dict[str, np.ndarray]

_SPECTRA = ("flux", "flux_error", "continuum", "sr1_flux", "sr1_error")
_LINES = ("flux", "flux_error", "wavelength", "fwhm", "equivalent_width", "presence", "prior_weight")
# in units of which recorded error
_ERRORS = {
    "flux": "flux_error",
    "continuum": "flux_error",
    "sr1_flux": "sr1_error",
    "line_flux": "line_flux_error",
    "z": "z_error",
    "redshift": "redshift_error",
}


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(
        prog="python benchmarks/recorded_outputs.py",
        description="Record what the shipped weights make of some spectra, or compare with a recording.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("action", choices=("record", "compare"))
    p.add_argument("file", type=Path, metavar="FILE", help="of the recording, .npz")
    p.add_argument("--real", type=Path, metavar="DIR", help="of real spectra, to be recorded as well")
    p.add_argument("--model", default="default", help="shipped model or model folder (%(default)s)")
    p.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS, help="default: all")
    p.add_argument("--tolerance", type=float, default=1e-5, help="largest difference (%(default)s)")
    return p


def inputs(real: Path | None) -> Arrays:
    """Simulated prism spectra, faint ones too, and real ones; (n, pixels) padded with NaN."""
    # seconds of imports: not for --help
    from data_pipeline.instrument import PRISM, load_instrument
    from data_pipeline.readers import read_spectrum
    from data_pipeline.simulation import SimulationConfig, simulate_batch
    from data_pipeline.spectrum import SpectrumError

    batch = simulate_batch(np.arange(SIMULATED), SEED, SimulationConfig(), gratings=False)
    wavelength = load_instrument(PRISM).wavelength
    rows = [
        (wavelength, batch.prism_flux[i], batch.prism_error[i], batch.prism_mask[i]) for i in range(SIMULATED)
    ]
    for path in sorted(real.rglob("*.fits*")) if real else []:
        try:
            one = read_spectrum(path)
        except SpectrumError:
            continue
        if one.meta.disperser in ("", "PRISM"):
            rows.append((one.wavelength, one.flux, one.error, one.mask))
    size = max(row[0].size for row in rows)
    stacked = [
        np.stack(
            [np.pad(np.asarray(r[k], float), (0, size - r[k].size), constant_values=np.nan) for r in rows]
        )
        for k in range(4)
    ]
    return dict(zip(("wavelength", "flux", "error", "mask"), stacked, strict=True))


def through_python(given: Arrays, model: str) -> Arrays:
    """Results of `kspecsr.load`."""
    import astropy.units as u

    import kspecsr

    unit = u.Unit("erg / (s cm2 AA)")
    spectra = []
    for wavelength, flux, error, mask in zip(*given.values(), strict=True):
        real = np.isfinite(wavelength)
        spectra.append((wavelength[real] * u.um, flux[real] * unit, error[real] * unit, mask[real] > 0))
    results = kspecsr.load(model)(spectra)
    arrays = {name: np.stack([getattr(r, name) for r in results]) for name in _SPECTRA}
    arrays |= {f"line_{name}": np.stack([getattr(r.measurements, name) for r in results]) for name in _LINES}
    arrays["line_in_range"] = np.stack([r.measurements.in_range for r in results])
    arrays["mask"] = np.stack([r.mask for r in results])
    arrays["prism_model"] = np.stack([r.prism_model for r in results])
    arrays["chi_square"] = np.array([r.chi_square for r in results])
    arrays["flags"] = np.array([",".join(r.flags) for r in results])
    arrays["probability"] = np.stack([r.redshift.probability for r in results])
    for name in ("value", "error", "confidence"):
        arrays[f"redshift_{name}".removesuffix("_value")] = np.array(
            [getattr(r.redshift, name) for r in results]
        )
    arrays["modes"] = np.array([[m.redshift for m in r.redshift.modes[:1]] or [np.nan] for r in results])
    return arrays


def through_export(given: Arrays, model: str) -> Arrays:
    """Answers of a fresh export, on the caller's own pixels."""
    with tempfile.TemporaryDirectory() as folder:
        _run("kspecsr.export", "--model", model, "--output", f"{folder}/kspecsr")
        import tensorflow as tf

        call = tf.saved_model.load(f"{folder}/kspecsr/1").signatures["from_wavelength"]
        good = ~(given["mask"] > 0)
        answers = []
        for start in range(0, good.shape[0], 16):
            rows = slice(start, start + 16)
            answers.append(
                call(
                    wavelength=tf.constant(given["wavelength"][rows]),
                    flux=tf.constant(np.where(good, given["flux"], np.nan)[rows]),
                    error=tf.constant(given["error"][rows]),
                )
            )
    return {
        name: np.concatenate([one[name].numpy() for one in answers]) for name in answers[0] if name != "model"
    }


def through_survey(given: Arrays, model: str) -> Arrays:
    """Tables of ``survey`` on a Parquet catalogue."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {}
    real = np.isfinite(given["wavelength"])
    for name in given:
        columns[name] = [list(row[keep]) for row, keep in zip(given[name], real, strict=True)]
    columns["mask"] = [[int(v) for v in row] for row in columns["mask"]]
    columns["id"] = list(range(len(real)))
    with tempfile.TemporaryDirectory() as folder:
        pq.write_table(pa.table(columns), f"{folder}/in.parquet")
        _run(
            *("kspecsr.survey", f"{folder}/in.parquet", "--output", f"{folder}/out", "--model", model),
            *("--workers", "1", "--quiet", "--no-hats", "--spectra", "--dashboard", "0"),
            *("--flux-unit", "erg/s/cm2/AA", "--wavelength-unit", "um"),
        )
        objects, lines = (
            pq.read_table(f"{folder}/out/{name}").sort_by("input_row") for name in ("objects", "lines")
        )
    arrays = {
        name: np.asarray(objects[name].to_pylist())
        for name in objects.column_names
        if name not in ("source", "source_row", "z_modes", "z_mode_errors", "z_mode_masses", "object_id")
    }
    table = {name: np.asarray(lines[name].to_pylist()) for name in lines.column_names if name != "object_id"}
    order = np.lexsort((table["line"], table["input_row"]))
    return arrays | {f"line_{name}": values[order] for name, values in table.items()}


def differences(recorded: Arrays, found: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Largest difference of each array, in units of its errors or its size; infinity for another pattern."""
    worst = {}
    for name, before in recorded.items():
        after = found.get(name)
        if after is None or after.shape != before.shape:
            worst[name] = np.inf
        elif before.dtype.kind in "USbO":
            worst[name] = 0.0 if np.array_equal(before, after) else np.inf
        else:
            before, after = before.astype(float), np.asarray(after, float)
            same_gaps = np.array_equal(np.isfinite(before), np.isfinite(after))
            unit = recorded.get(_ERRORS.get(name, ""))
            if name in ("probability", "redshift_probability"):
                unit = before.max(axis=-1, keepdims=True)
            unit = np.abs(before) if unit is None else np.asarray(unit, float)
            with np.errstate(all="ignore"):
                size = np.abs(after - before) / np.where(unit > 0, unit, 1.0)
            worst[name] = float(np.nanmax(size, initial=0.0)) if same_gaps else np.inf
    return worst


def _run(module: str, *arguments: str) -> None:
    subprocess.run([sys.executable, "-m", module, *arguments], check=True, stdout=subprocess.DEVNULL)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command."""
    args = parser().parse_args(argv)
    ways = {"python": through_python, "export": through_export, "survey": through_survey}
    if args.action == "record":
        given = inputs(args.real)
        arrays = {f"input/{name}": values for name, values in given.items()}
        for way in args.ways:
            arrays |= {f"{way}/{name}": values for name, values in ways[way](given, args.model).items()}
        args.file.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(args.file, **arrays)
        print(f"{args.file}: {len(given['flux'])} spectra, {len(arrays)} arrays")
        return 0
    with np.load(args.file, allow_pickle=False) as stored:
        recorded = dict(stored)
    parts = {way: _part(recorded, way) for way in ("input", *args.ways)}
    broken = 0
    for way in args.ways:
        worst = differences(parts[way], ways[way](parts["input"], args.model))
        broken += sum(not value <= args.tolerance for value in worst.values())
        shown = sorted(worst.items(), key=lambda item: -item[1])[:6]
        print(f"{way}: " + ", ".join(f"{name} {value:.1e}" for name, value in shown), flush=True)
    count = len(parts["input"]["flux"])
    print(f"{count} spectra: {broken} arrays differ by more than {args.tolerance:g}")
    return 1 if broken else 0


def _part(arrays: Arrays, way: str) -> Arrays:
    return {name.split("/", 1)[1]: values for name, values in arrays.items() if name.startswith(f"{way}/")}


if __name__ == "__main__":
    sys.exit(main())
