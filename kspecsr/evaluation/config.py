"""What an evaluation judges."""

from __future__ import annotations

from dataclasses import dataclass

from kspecsr.evaluation.sources import SHIPPED_SEED

# in the order of tables and legends
METHODS = (
    "cubic",
    "wiener",
    "tikhonov",
    "richardson_lucy",
    "direct_fit",
    "sr1",
    "sr2",
    "sr2_known_z",
    "direct_fit_found_z",
    "truth_found_z",
    "truth_bound_z",
)
TITLES = {
    "cubic": "cubic interpolation",
    "wiener": "Wiener",
    "tikhonov": "Tikhonov",
    "richardson_lucy": "Richardson-Lucy",
    "direct_fit": "direct fit, z known",
    "sr1": "SR1",
    "sr2": "SR2",
    "sr2_known_z": "SR2, z known",
    "direct_fit_found_z": "direct fit, z of SR2",
    "truth_found_z": "oracle, z of SR2",
    "truth_bound_z": "oracle, z of bound",
}


@dataclass(frozen=True)
class EvaluationConfig:
    """Settings of an evaluation.

    Attributes:
        n: galaxies.
        seed: of simulated held-out galaxies.
        split: of records.
        methods: what is judged; ``cubic`` and ``direct_fit`` are always among them, as others are measured
            against them.
        prior_galaxies: galaxies of the prior-response test; 0 leaves it out.
        resamples: of every bootstrap.
    """

    n: int = 2000
    seed: int = SHIPPED_SEED
    split: str = "test"
    methods: tuple[str, ...] = METHODS
    prior_galaxies: int = 200
    resamples: int = 100

    def __post_init__(self) -> None:
        if self.n < 2:
            raise ValueError(f"n: expected two galaxies or more, got {self.n}")
        if self.prior_galaxies < 0 or self.resamples < 2:
            raise ValueError(
                "expected prior_galaxies >= 0 and resamples >= 2, got "
                f"{self.prior_galaxies} and {self.resamples}"
            )
        unknown = sorted(set(self.methods) - set(METHODS))
        if unknown:
            raise ValueError(f"methods: unknown {', '.join(unknown)}; expected some of {', '.join(METHODS)}")
        missing = [name for name in ("cubic", "direct_fit") if name not in self.methods]
        if missing:
            raise ValueError(f"methods: {' and '.join(missing)} missing: others are measured against them")
