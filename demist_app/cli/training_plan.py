"""The dry run of the group level: who would be trained on, in which folds, for how long."""

from bids_layout.pairing import Unit
from demist_app.cli.cohort import Cohort, splits_path
from demist_app.model.presets import TrainingPreset


def describe_training(cohort: Cohort) -> str:
    """Say what a run would train; nothing is written to disk."""
    settings, splits, preset = cohort.settings, cohort.splits, cohort.preset
    training = settings.training
    fold_of = {a.unit: a.fold for a in splits.assignments}
    drawn = 'as written in' if splits_path(settings).exists() else 'to be written to'
    lines = [f'{_units(len(cohort.units))} with a measured PSR map']
    lines += [f'  {unit.label}  {_describe(unit, cohort, fold_of)}' for unit in cohort.units]
    if cohort.skipped:
        lines.append(f'{len(cohort.skipped)} skipped')
        lines += [f'  {skip.label}: {skip.reason}' for skip in cohort.skipped]
    lines.append(f'{splits.n_splits} folds, {drawn} {splits_path(settings)}')
    for fold in range(1, splits.n_splits + 1):
        tested = sum(a.fold == fold for a in splits.assignments)
        chosen = '' if training.fold in (None, fold) else ' (not in this run)'
        others = len(splits.assignments) - tested
        lines.append(f'  fold {fold}: {_units(others)} to train on, {tested} to test{chosen}')
    final = training.final and not training.fold
    models = len(training.methods) * (1 if training.fold else splits.n_splits) + final
    with_final = f', the last one {training.methods[0]} on all units' if final else ''
    updates = _updates(preset.training, pretrained=bool(training.backbone))
    facts = {
        'methods': ', '.join(training.methods),
        'models': f'{models}{with_final}, to {settings.inputs.out_dir / "models"}',
        'preset': f'{preset.name}, streams {", ".join(preset.streams.active) or "none"}'
        + (', distilled' if preset.training.distill else ''),
        'updates': f'up to {updates:,} for each latent diffusion model',
        'backbone': str(training.backbone or 'none given: stage 1c trains one for each model'),
        'checkpoints': f'{settings.execution.work_dir / "demist_group"}; '
        f'{"used again" if training.resume else "started anew"}',
    }
    return '\n'.join([*lines, 'training', *(f'  {key:<12} {text}' for key, text in facts.items())])


def _describe(unit: Unit, cohort: Cohort, fold_of: dict[str, int]) -> str:
    assert unit.psr, 'a cohort holds only units with a measured map'
    fold = fold_of.get(unit.label)
    where = f'fold {fold}' if fold else 'no fold: it failed when they were drawn'
    return f'{unit.psr.name}, group {cohort.groups[unit.participant]}, {where}'


def _updates(training: TrainingPreset, *, pretrained: bool) -> int:
    stages = [
        training.psr_autoencoder,
        training.cond_autoencoder,
        training.alignment,
        training.conditional,
        *([] if pretrained else [training.backbone]),
        *([training.distillation] if training.distill else []),
    ]
    return sum(stage.updates for stage in stages)


def _units(number: int) -> str:
    return f'{number} unit{"" if number == 1 else "s"}'
