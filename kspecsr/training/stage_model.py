"""A stage ready for `fit`: the frozen stages before it, its own network, and its loss."""

from collections.abc import Mapping

import keras
from keras import ops

from kspecsr import losses
from kspecsr.configuration import STAGES, LossConfig, Preset
from kspecsr.layers.broad_lines import of_broad_fluxes
from kspecsr.layers.geometry import plain_grid
from kspecsr.layers.line_posterior import of_free_fluxes
from kspecsr.layers.lines import LineMask, LinePositions
from kspecsr.layers.operators import Upsampling
from kspecsr.layers.prism_channels import PrismNormalisation
from kspecsr.models import BUILDERS, redshift_step

_PRISM = ("prism_flux", "prism_error", "prism_mask")
_TARGET = ("target_flux", "target_error", "target_mask")


class StageModel(keras.Model):
    """One stage under training; everything in units of 1e-20 erg/s/cm2/A.

    Args:
        stage: ``sr1``, ``zhead`` or ``sr2``.
        preset: networks and weights of the loss terms.
        upstream: stage to trained network, for the stages before. They are frozen here, and called with
            ``training=False``: a frozen network's dropout would be live otherwise.

    Raises:
        ValueError: for an unknown stage, or a missing stage before it.
    """

    def __init__(self, stage: str, preset: Preset, upstream: Mapping[str, keras.Model]):
        super().__init__(name=f"{stage}_training")
        if stage not in STAGES:
            raise ValueError(f"expected a stage among {', '.join(STAGES)}, got {stage!r}")
        needed = STAGES[: STAGES.index(stage)]
        missing = [name for name in needed if name not in upstream]
        if missing:
            raise ValueError(
                f"stage {stage} needs the trained stage {' and '.join(missing)} before it; "
                f"train {'them' if len(missing) > 1 else 'it'} first, or --stage all"
            )
        self.stage, self.losses_config = stage, preset.losses
        self.step_of_log = redshift_step(preset.model)
        self.further_terms = {
            "zhead": _OPEN_WORLD_TERMS if preset.model.zhead.open_world else (),
            "sr2": ("broad_lines",) if preset.model.sr2.broad_lines else (),
        }.get(stage, ())
        self.sampling = float(preset.model.grid.sampling)
        self.frozen = [upstream[name] for name in needed]
        for model in self.frozen:
            model.trainable = False
        self.stage_network = BUILDERS[stage](preset.model)
        self.trackers = {}
        # Layers that only losses need are no part of the network that is saved.
        self.line_terms = _SR1LineTerms(preset.losses, plain_grid(preset.model.grid), preset.model.lines)

    def call(self, x, training=False):
        """Outputs of this stage and of those before it.

        Args:
            x: ``prism_flux``, ``prism_error``, ``prism_mask`` (B, P), ``redshift`` (B,).
            training: whether this stage's dropout is live.
        """
        prism = {name: x[name] for name in _PRISM}
        outputs: dict = {}
        # By the order of `STAGES`: each stage's inputs are what those before it put out.
        networks = [*self.frozen, self.stage_network]
        for number, (name, network) in enumerate(zip(STAGES, networks, strict=False)):
            live = bool(training) and number == len(self.frozen)
            inputs = dict(prism)
            if name != "sr1":
                inputs |= {key: outputs[key] for key in ("sr1_flux", "sr1_error")}
                inputs["redshift"] = x["redshift"] if name == "zhead" else outputs["redshift"]
            if name == "sr2":
                inputs["redshift_error"] = outputs["redshift_error"]
            outputs |= network(inputs, training=live)
        return outputs

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Weighted sum of the stage's terms, each of which is logged by its name."""
        terms = getattr(self, f"_{self.stage}_terms")(x, y, y_pred)
        total = 0.0
        for name, value in terms.items():
            weight = getattr(self.losses_config, name, 1.0)
            if weight > 0:
                # Terms without weight are not in the sum rather than times 0: a NaN of theirs would stay.
                total = total + weight * value
                if name in self.trackers:
                    self.trackers[name].update_state(value)
        return total

    def build(self, input_shape=None):
        """Make trackers of the loss terms that count."""
        for name in (*TERMS[self.stage], *self.further_terms):
            if getattr(self.losses_config, name, 1.0) > 0 and name not in self.trackers:
                self.trackers[name] = keras.metrics.Mean(name=name)
        self.built = True

    @property
    def metrics(self):
        """Keras' own metrics, and the means of the loss terms."""
        return [*super().metrics, *self.trackers.values()]

    def _sr1_terms(self, x, y, outputs):
        return {
            "likelihood": losses.spectrum_nll(
                *(y[name] for name in _TARGET), outputs["sr1_flux"], outputs["sr1_error"]
            ),
            **self.line_terms(x, y, outputs["sr1_flux"]),
        }

    def _zhead_terms(self, x, y, outputs):
        redshift, log_probability = y["true_redshift"], outputs["redshift_log_probability"]
        nll = losses.redshift_nll(log_probability, redshift, self.step_of_log, y["second_redshift"])
        if not self.further_terms:
            return {"redshift": nll}
        return {
            "redshift": nll,
            "no_redshift": losses.no_redshift_loss(outputs["none_logit"], redshift, y["object_class"]),
            "object_class": losses.class_loss(outputs["class_log_probability"], y["object_class"]),
        }

    def _sr2_terms(self, x, y, outputs):
        weights: LossConfig = self.losses_config
        good = 1.0 - ops.cast(y["target_mask"], "float32")
        mask, amplitude = outputs["line_mask"], outputs["amplitude"]
        right, wrong = losses.redshift_is(outputs["redshift"], y["true_redshift"])
        in_range = outputs["line_in_range"]
        known = ops.cast(y["line_known"], "float32") * in_range * right[:, None]
        # at a wrong redshift, whatever stands where a line should be is not that line
        present = ops.cast(y["line_detectable"], "float32") * right[:, None]
        judged = ops.maximum(known, in_range * wrong[:, None])
        flux, error = outputs["flux"], outputs["flux_error"]
        correction = flux - outputs["sr1_flux"]
        rough, size = losses.outside_losses(correction, amplitude, mask)
        # Where the lines are drawn, not where the redshift is: the common shift moves them too.
        drawn_at = (1.0 + outputs["redshift"]) * (1.0 + outputs["common_shift"]) - 1.0
        # Fluxes must not be learned by moving the target under them: only `position` may pull at the place.
        moved = self._moved(y, ops.stop_gradient(drawn_at), right)
        aligned = weights.aligned > 0
        shape_target, shape_good = (moved["flux"], moved["good"]) if aligned else (y["target_flux"], good)
        terms = {
            # With `aligned`, errors learn from where the lines truly are, and fluxes from where they are
            # drawn: one likelihood for both would make an uncertain redshift cost flux as well.
            "likelihood": losses.spectrum_nll(
                *(y[name] for name in _TARGET), ops.stop_gradient(flux) if aligned else flux, error
            ),
            "aligned": losses.spectrum_nll(
                moved["flux"], moved["error"], moved["good"] < 0.5, flux, ops.stop_gradient(error)
            ),
            "line_shape": losses.line_shape_loss(flux, shape_target, shape_good, mask, amplitude),
            "position": losses.position_loss(
                drawn_at, y["true_redshift"], right * ops.cast(outputs["redshift_error"] > 0, "float32")
            ),
            "smoothness": rough,
            "deviation": size,
            "residual_l1": losses.residual_l1(correction, amplitude),
            "line_flux": _line_flux_nll(y, outputs, known),
            "presence": losses.presence_loss(present, outputs["line_logit"], judged),
            "continuum": losses.continuum_loss(
                outputs["continuum"],
                y["target_continuum"],
                ops.cast(y["continuum_known"], "float32"),
                mask,
                amplitude,
            ),
            "consistency": losses.consistency_loss(
                x["prism_flux"], x["prism_error"], outputs["prism_seen"], outputs["prism_model"]
            ),
        }
        if "broad_logit" in outputs:
            width = [outputs[f"broad_{name}"] for name in ("logit", "log_velocity", "log_sigma")]
            terms["broad_lines"] = losses.broad_line_loss(*width, y["broad_velocity"], right)
        return {name: value for name, value in terms.items() if getattr(weights, name) > 0}

    def _moved(self, y, redshift, right):
        """Target moved to where lines are drawn: flux, error, and 1 where both of them are good."""
        pixels = losses.pixels_between(redshift, y["true_redshift"], right, self.sampling)
        whole = losses.shifted(1.0 - ops.cast(y["target_mask"], "float32"), pixels)
        return {
            "flux": losses.shifted(y["target_flux"], pixels),
            "error": ops.maximum(losses.shifted(y["target_error"], pixels), 0.0),
            "good": ops.cast(ops.abs(whole - 1.0) < 1e-3, "float32"),
        }


def _line_flux_nll(y, outputs, known):
    """Likelihood of line fluxes: of each by itself, or of all together where the network says so."""
    flux, error = y["line_flux"], y["line_error"]
    if "free_mean" not in outputs:
        names = ("line_mean", "line_sigma", "line_unit")
        return losses.line_flux_nll(flux, error, known, *(outputs[name] for name in names))
    unit = ops.maximum(outputs["free_unit"], 1e-6)
    broad = "broad_logit" in outputs
    # a line whose parts nobody knows counts as narrow alone
    narrow = flux - y["line_broad_flux"] if broad else flux
    target, own = (of_free_fluxes(values, known) for values in (narrow, error))
    use = of_free_fluxes(known, known)
    if broad:
        parts_known = known * ops.cast(ops.isfinite(y["broad_velocity"]), "float32")[:, None]
        wide = of_broad_fluxes(y["line_broad_flux"], parts_known)
        target = ops.concatenate([target, wide], axis=1)
        own = ops.concatenate([own, ops.zeros_like(wide)], axis=1)
        use = ops.concatenate([use, of_broad_fluxes(parts_known, parts_known)], axis=1)
    use = outputs["free_in_range"] * ops.cast(use > 0, "float32")
    target = ops.clip(target / unit, -1e5, 1e5)
    return losses.joint_loss(target, own / unit, use, outputs["free_mean"], outputs["free_covariance"])


class _SR1LineTerms:
    """The first stage's own balance of line fidelity against smoothness (paper section 3.4).

    Lines are where they are at the true redshift; a galaxy without one has none. Nothing is computed where
    both weights are 0.

    Args:
        weights: weights of the loss terms.
        grid: unified grid.
        lines: list of lines.
    """

    def __init__(self, weights: LossConfig, grid: tuple[float, float, float], lines: str):
        self._weights = {name: getattr(weights, name) for name in _SR1_LINE_TERMS}
        if any(self._weights.values()):
            self._normalisation = PrismNormalisation(dtype="float32")
            self._upsampling = Upsampling(grid, dtype="float32")
            self._positions = LinePositions(grid, lines, dtype="float32")
            self._mask = LineMask(grid, dtype="float32")

    def __call__(self, x, y, flux) -> dict:
        """Loss terms by name, from inputs, targets and the output (B, N) of the stage."""
        if not any(self._weights.values()):
            return {}
        prism = self._normalisation(*(x[name] for name in _PRISM))
        amplitude = self._upsampling((prism["amplitude"] * prism["scale"])[..., None])[..., 0]
        amplitude = ops.maximum(amplitude, 1e-4 * prism["scale"])
        # A number for those without a redshift, whose lines are then out of range: no NaN in the mask.
        known = ops.isfinite(y["true_redshift"])
        redshift = ops.where(known, y["true_redshift"], 0.0)
        places = self._positions(redshift)
        names = ("grid_pixel", "wavelength", "reference_sigma")
        in_range = places["in_range"] * ops.cast(known, "float32")[:, None]
        mask = self._mask(*(places[name] for name in names), in_range, redshift, ops.zeros_like(redshift))
        good = 1.0 - ops.cast(y["target_mask"], "float32")
        terms = {
            "sr1_line_shape": losses.line_shape_loss(flux, y["target_flux"], good, mask, amplitude),
            "sr1_smoothness": losses.outside_losses(flux, amplitude, mask)[0],
        }
        return {name: value for name, value in terms.items() if self._weights[name] > 0}


# loss terms of each stage, as they are logged
_SR1_LINE_TERMS = ("sr1_line_shape", "sr1_smoothness")
_OPEN_WORLD_TERMS = ("no_redshift", "object_class")
TERMS = {
    "sr1": ("likelihood", *_SR1_LINE_TERMS),
    "zhead": ("redshift",),
    "sr2": tuple(
        name
        for name in LossConfig.__dataclass_fields__
        if name not in (*_SR1_LINE_TERMS, *_OPEN_WORLD_TERMS, "broad_lines")
    ),
}


class MirroredStageModel(StageModel):
    """The same stage, of which each device sees its share of a batch (TensorFlow backend)."""

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Loss divided by the number of devices: their gradients are summed."""
        loss = super().compute_loss(x, y, y_pred, sample_weight, training)
        return loss / self.distribute_strategy.num_replicas_in_sync

    def _maybe_symbolic_build(self, *_, **__):
        """Nothing: Keras would average a batch over the devices, masks included, to build what is built."""
