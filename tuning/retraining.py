"""The best configuration of a sweep, trained as long as the preset says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tqdm import tqdm

from kspecsr.configuration import STAGES
from kspecsr.model_folder import copy_stage, read_settings, stage_hash, stage_path
from tuning.study_folder import BEST_MODEL, RETRAINED_FILE, study_records, write_json
from tuning.sweep_plan import SweepPlan
from tuning.sweep_settings import SweepSettings, stage_folder
from tuning.trial_process import TrialJob, TrialProcess
from tuning.trial_record import best_of


def retrain_best(
    plan: SweepPlan,
    settings: SweepSettings,
    folder: Path | None,
    process: TrialProcess,
    say: Callable[[str], None],
) -> None:
    """Trains the best configuration at full budget, into the studies' own model folder.

    Args:
        plan: what was asked for.
        settings: of the sweep.
        folder: model folder with the stages before it.
        process: that trains.
        say: takes a line of text.

    Raises:
        TrialError: if the training does not come to its end; the same command goes on with it.
    """
    stage, own, model = settings.stage, stage_folder(plan.output, settings.stage), plan.output / BEST_MODEL
    best = best_of(study_records(plan.output, settings))
    name = f"{plan.output.name} {stage} trial {best.name}, retrained"
    preset = settings.full_preset(dict(best.values), plan.output.name)
    run = own / f"retrained_{best.name}"
    say(f"{stage}: trial {best.name} is trained again at full budget, {preset.training[stage].epochs} epochs")
    job = TrialJob(
        stage, preset.to_json(), plan.data, run, folder, settings.seed, plan.workers, run / "log.txt"
    )
    bar = tqdm(
        total=preset.training[stage].epochs, desc=f"{stage} best", unit="epoch", disable=None, leave=False
    )
    with bar:
        outcome = process.run(job, lambda epoch, goal: bar.update() and False)
    if folder is not None and folder != model:
        for earlier in STAGES[: STAGES.index(stage)]:
            if not stage_path(model, earlier).is_file():
                entry = read_settings(folder).stages.get(earlier, {})
                copy_stage(folder, model, earlier, preset, entry)
    copy_stage(run, model, stage, preset, read_settings(run).stages[stage])
    content = {
        "name": name,
        "trial": best.name,
        "values": dict(best.values),
        "goal_of_the_trial": best.goal,
        "goal": outcome["goal"],
        "metrics": outcome["metrics"],
        "epochs": outcome["epochs"],
        "sha256": stage_hash(model, stage),
    }
    write_json(own / RETRAINED_FILE, content)
    say(
        f"{stage}: best at full budget: goal {outcome['goal']:.4f}, in {model} "
        f"(SHA-256 {content['sha256'][:12]})"
    )
