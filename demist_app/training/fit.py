"""One stage through Lightning: budget, checkpoints, moving average, early stopping, logs."""

import logging
import math
import os
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Literal

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import (
    Callback,
    EarlyStopping,
    ModelCheckpoint,
    RichProgressBar,
    WeightAveraging,
)
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from demist_app.memory import largest_resident
from demist_app.model.demist import bfloat16_pays
from demist_app.training.patches import Draws
from demist_app.training.stage import CLIP, Stage

LOGGER = logging.getLogger('demist')
VALIDATION_BATCHES = 8
_NARROW = 4
_OUT_OF_MEMORY = ('out of memory', "can't allocate memory", 'not enough memory')


class TrainingError(ValueError):
    """Training cannot go on; the text says what to change."""


@dataclass(frozen=True)
class Machine:
    """What to train on.

    Attributes
    ----------
    accelerator : str
        ``auto``, ``cpu`` or ``gpu``.
    devices, num_nodes : int
        Processes per node, and nodes; each process takes batches of its own.
    threads : int
        Of the processor, per process.
    workers : int
        Processes that cut patches, per training process; 0: the training process itself.
    """

    accelerator: str = 'auto'
    devices: int = 1
    num_nodes: int = 1
    threads: int = 1
    workers: int = 0

    @property
    def device(self) -> torch.device:
        """Where the work of one process is done."""
        gpu = self.accelerator != 'cpu' and torch.cuda.is_available()
        return torch.device('cuda' if gpu else 'cpu')

    @property
    def strategy(self) -> str:
        """How processes find each other: started by us, or by SLURM's ``srun``."""
        if self.devices * self.num_nodes == 1:
            return 'auto'
        # the discriminator joins late, and an edge term may decode nothing
        kind = 'ddp' if 'SLURM_NTASKS' in os.environ else 'ddp_spawn'
        return f'{kind}_find_unused_parameters_true'


class Chronicle(Callback):
    """Tell how it goes, and remember how long it took through any number of restarts."""

    def __init__(self, name: str, epochs: int, per_epoch: int) -> None:
        self.name = name
        self.per_epoch = per_epoch
        self.updates = epochs * per_epoch
        self.seconds = 0.0
        self.history: list[dict[str, float]] = []
        self._since = time.monotonic()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002
        """Start the clock."""
        self._since = time.monotonic()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002
        """Write one line."""
        passed = time.monotonic() - self._since
        self.seconds += passed
        metrics = {k: float(v) for k, v in trainer.callback_metrics.items()}
        done = (trainer.current_epoch + 1) * self.per_epoch
        self.history.append({'updates': float(done), **metrics})
        if trainer.is_global_zero:
            left = (self.updates - done) * self.seconds / done / 60
            LOGGER.warning(
                'stage %s: %d of %d updates, loss %.4f, validation %.4f, at most %.0f min left',
                self.name,
                done,
                self.updates,
                metrics.get('train/loss', float('nan')),
                metrics.get('val/loss', float('nan')),
                left,
            )

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {'seconds': self.seconds, 'history': self.history}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.seconds = state_dict['seconds']
        self.history = state_dict['history']


@contextmanager
def _without_advice() -> Iterator[None]:
    """Keep back what Lightning advises and does not apply here."""
    with warnings.catch_warnings():
        # patches are a function of their number: there are as many as one asks for, and few
        # enough processors that workers are a choice
        warnings.filterwarnings('ignore', '.*does not have many workers.*')
        warnings.filterwarnings('ignore', '.*found.*in eval mode.*')
        warnings.filterwarnings('ignore', '.*exists and is not empty.*')
        warnings.filterwarnings('ignore', '.*LeafSpec.*')
        # one process is a choice too, where there is SLURM
        warnings.filterwarnings('ignore', '.*`srun` command is available.*')
        yield


@_without_advice()
def fit(
    stage: Stage,
    training: Dataset[dict[str, Tensor]],
    validation: Dataset[dict[str, Tensor]],
    folder: Path,
    machine: Machine,
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Train one stage, from its last checkpoint if there is one.

    An epoch is what lies between two validations; its patches and its noise are a function of
    its number, so that a run that was killed ends with the same bits as one that was not.

    Parameters
    ----------
    stage : Stage
    training, validation : Dataset
        Item i is a function of i; they have no end.
    folder : Path
        For checkpoints and logs.
    machine : Machine

    Returns
    -------
    weights : dict
        Moving average at the best validation.
    facts : dict
        Updates, seconds, losses, parameters, memory, device.

    Raises
    ------
    TrainingError
        If memory is short, or the loss became infinite.
    """
    budget, training_preset = stage.budget, stage.preset.training
    epochs, per_epoch = training_preset.intervals(budget)
    name = folder.name
    chronicle = Chronicle(name, epochs, per_epoch)
    # two: Lightning's `save_last` keeps the last of the best, and a stage goes on after its best
    keepers = [
        ModelCheckpoint(
            dirpath=folder,
            filename=filename,
            monitor=monitor,
            save_on_train_epoch_end=True,
            enable_version_counter=False,
        )
        for filename, monitor in (('best', 'val/loss'), ('last', None))
    ]
    stopper = EarlyStopping(
        'val/loss', patience=training_preset.patience, check_on_train_epoch_end=True
    )
    torch.set_num_threads(machine.threads)
    for chatty in ('lightning.pytorch', 'lightning.fabric'):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    bar = [RichProgressBar(leave=False)] if sys.stderr.isatty() else []
    trainer = pl.Trainer(
        accelerator='gpu' if machine.device.type == 'cuda' else 'cpu',
        devices=machine.devices,
        num_nodes=machine.num_nodes,
        strategy=machine.strategy,
        precision=precision(stage, machine),
        max_epochs=epochs,
        accumulate_grad_batches=budget.accumulate if stage.automatic_optimization else 1,
        gradient_clip_val=CLIP if stage.automatic_optimization else None,
        logger=[
            CSVLogger(folder / 'log', name='csv'),
            TensorBoardLogger(folder / 'log', name='tensorboard'),
        ],
        callbacks=[
            # Lightning's own exponential average cannot be sent to other processes
            WeightAveraging(multi_avg_fn=partial(_moving_average, training_preset.ema)),
            stopper,
            chronicle,
            *keepers,
            *bar,
        ],
        log_every_n_steps=1,
        enable_progress_bar=bool(bar),
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
    )

    def loader(
        dataset: Dataset[dict[str, Tensor]], batches: int, *, fixed: bool
    ) -> DataLoader[Any]:
        return DataLoader(
            dataset,
            batch_size=budget.batch,
            sampler=Draws(batches * budget.batch, fixed=fixed),
            num_workers=machine.workers,
            persistent_workers=machine.workers > 0,
            multiprocessing_context='spawn' if machine.workers else None,
        )

    start, ended = _resumption(folder, chronicle, stopper)
    # a moving average of what does not move is still rounded
    frozen = {k: p.detach().clone() for k, p in stage.named_parameters() if not p.requires_grad}
    try:
        if not ended:
            trainer.fit(
                stage,
                loader(training, per_epoch * budget.accumulate, fixed=False),
                loader(validation, VALIDATION_BATCHES, fixed=True),
                ckpt_path=start,
            )
    except (RuntimeError, MemoryError) as error:
        if not any(text in str(error).lower() for text in _OUT_OF_MEMORY):
            raise
        raise TrainingError(
            f'stage {name} needs more memory than there is: lower "patch" (now {budget.patch}) or '
            f'"batch" (now {budget.batch}) of this stage in the preset, and raise "accumulate" '
            'by as much as the batch shrinks'
        ) from error
    kept = torch.load(folder / 'best.ckpt', map_location='cpu', weights_only=True)
    final = torch.load(folder / 'last.ckpt', map_location='cpu', weights_only=True)
    history = final['callbacks'][chronicle.state_key]
    if not all(math.isfinite(past['val/loss']) for past in history['history']):
        raise TrainingError(
            f'stage {name}: the loss became infinite; lower its "learning_rate" '
            f'(now {budget.learning_rate:g}) in the preset'
        )
    parameters = list(stage.parameters())
    facts = {
        'updates': round(history['history'][-1]['updates']),
        'best_update': min(history['history'], key=lambda h: h['val/loss'])['updates'],
        'validation_loss': min(h['val/loss'] for h in history['history']),
        'history': history['history'],
        'seconds': round(history['seconds'], 1),
        'parameters': sum(p.numel() for p in parameters),
        'trainable_parameters': sum(p.numel() for p in parameters if p.requires_grad),
        'peak_memory_gb': round(peak_memory(machine.device), 2),
        'device': _describe(machine),
        'precision': str(trainer.precision),
    }
    return stage.weights(kept['state_dict'] | frozen), facts


def _resumption(
    folder: Path, chronicle: Chronicle, stopper: EarlyStopping
) -> tuple[Path | None, bool]:
    """Return the last checkpoint that is whole, and whether training had ended early with it.

    It may have been killed after its end and before anybody wrote so.
    """
    for path in (folder / 'last.ckpt', folder / 'best.ckpt'):
        try:
            known = torch.load(path, map_location='cpu', weights_only=True)['callbacks']
        except FileNotFoundError:
            continue
        except (RuntimeError, EOFError, UnpicklingError):  # the machine died while it was written
            LOGGER.warning('%s cannot be read; training goes on from before it', path)
            continue
        history = known[chronicle.state_key]['history']
        waited = known[stopper.state_key]['wait_count'] >= stopper.patience
        return path, waited or not math.isfinite(history[-1]['val/loss'])
    return None, False


def _moving_average(
    decay: float, average: Sequence[Tensor], current: Sequence[Tensor], _: Any
) -> None:
    for old, new in zip(average, current, strict=True):
        old.lerp_(new, 1 - decay)


def precision(stage: Stage, machine: Machine) -> Literal['bf16-mixed', '32-true']:
    """Choose mixed precision where it pays and works.

    On processors, torch 2.13 gives random weight gradients of bfloat16 convolutions over volumes
    that are two or three voxels wide.
    """
    works = machine.device.type == 'cuda' or stage.narrowest >= _NARROW
    return 'bf16-mixed' if works and bfloat16_pays(machine.device) else '32-true'


def peak_memory(device: torch.device) -> float:
    """Return what this process has filled at most, GiB."""
    if device.type == 'cuda':
        return torch.cuda.max_memory_allocated() / 2**30
    return largest_resident() * 1e9 / 2**30


def _describe(machine: Machine) -> str:
    world = machine.devices * machine.num_nodes
    if machine.device.type == 'cuda':
        return f'{world} x {torch.cuda.get_device_name()}'
    return f'CPU, {world} x {machine.threads} thread(s)'
