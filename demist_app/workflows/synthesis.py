"""From normalised scans to PSR maps in the space of the T1w."""

from collections.abc import Mapping

from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe
from niworkflows.engine.workflows import LiterateWorkflow

from demist_app.interfaces.lesions import DescribeLesions, FindLesionPairs
from demist_app.interfaces.metadata import PSRMetadata
from demist_app.interfaces.synthesis import RegionalTable, Synthesise, ToNative
from demist_app.model.bundle import Bundle
from demist_app.model.predictor import draws_of, sampling, states_sd
from demist_app.model.presets import BRIDGE
from demist_app.settings import Settings


def map_kinds(bundle: Bundle, settings: Settings) -> tuple[str, ...]:
    """Return the maps a model makes: ``mean``, and ``sd`` unless it is a single draw."""
    draws = draws_of(bundle.metadata, settings.processing.n_samples)
    return ('mean', 'sd') if states_sd(bundle.metadata, draws) else ('mean',)


def init_synthesise_node(*, bundle: Bundle, settings: Settings, seed: int, device: str) -> pe.Node:
    """Build the step that runs the model on one brain; see `init_synthesis_wf`."""
    execution = settings.execution
    memory_gb = 2.0
    if bundle.metadata['network'] == 'demist':
        from demist_app.model.memory import predicted_gb  # torch: linear does without

        memory_gb = min(predicted_gb(bundle), execution.memory_gb)
    return pe.Node(
        Synthesise(
            bundle=str(bundle.path),
            bundle_sha256=bundle.sha256,
            n_samples=draws_of(bundle.metadata, settings.processing.n_samples),
            seed=seed,
            device=device,
            use_gpu=device != 'cpu',
            num_threads=execution.omp_nthreads,
            memory_gb=execution.memory_gb,
        ),
        name='synthesise',
        mem_gb=memory_gb,
        n_procs=execution.omp_nthreads,
    )


def init_psr_metadata_node(
    sources: Mapping[str, str], *, bundle: Bundle, seed: int, device: str
) -> pe.Node:
    """Build the step that writes the maps' sidecars; `sources` names the scans they come from."""
    return pe.Node(
        PSRMetadata(
            **sources,
            model={
                'Name': bundle.name,
                'Version': str(bundle.metadata['version']),
                'SHA256': bundle.sha256,
            },
            seed=seed,
            device=device,
        ),
        name='psr_metadata',
        mem_gb=0.2,
    )


def init_synthesis_wf(
    *,
    bundle: Bundle,
    settings: Settings,
    seed: int,
    device: str,
    lesions: bool = False,
    name: str = 'synthesis_wf',
) -> LiterateWorkflow:
    """Build the synthesis of one unit.

    Parameters
    ----------
    bundle : Bundle
        Verified model.
    settings : Settings
    seed : int
        Of this unit.
    device : str
        ``cpu`` or ``cuda[:N]``.
    lesions : bool
        Whether there is a lesion mask.

    Inputs
    ------
    grid_t1w, grid_flair, grid_mask, grid_lesions, grid_tissue, grid_deep_gm
        As `init_anat_preproc_wf` gives them.
    mask
        Brain on the native grid of the T1w.

    Outputs
    -------
    mean, sd
        Percent, native grid of the T1w; those of `map_kinds`, as everywhere.
    grid_mean, grid_sd
        Percent, 1 mm grid.
    table, samples
        Regional values, as TSV and for the figure.
    facts, warnings, distance
        For the sidecars and the report.
    lesion_pairs
        For the sidecar, with a lesion mask.
    """
    workflow = LiterateWorkflow(name=name)
    workflow.__desc__ = (
        'A map of the macromolecular-to-free pool size ratio (PSR, in percent) was synthesised '
        f'from both images with *demist* [@demist], model {bundle.name} '
        f'(sha256 {bundle.sha256[:12]}), {bundle.metadata["description"]} '
        f'{_sampling(bundle, settings)}The map is synthetic, not measured. '
    )
    inputnode = pe.Node(
        niu.IdentityInterface(
            fields=[
                'grid_t1w', 'grid_flair', 'grid_mask', 'grid_lesions', 'grid_tissue',
                'grid_deep_gm', 'mask',
            ]
        ),
        name='inputnode',
    )  # fmt: skip
    outputnode = pe.Node(
        niu.IdentityInterface(
            fields=[
                'mean', 'sd', 'grid_mean', 'grid_sd', 'table', 'samples',
                'facts', 'warnings', 'distance', 'lesion_pairs',
            ]
        ),
        name='outputnode',
    )  # fmt: skip
    synthesise = init_synthesise_node(bundle=bundle, settings=settings, seed=seed, device=device)
    table = pe.Node(RegionalTable(), name='regional_table', mem_gb=1.0)
    workflow.connect([
        (inputnode, synthesise, [
            ('grid_t1w', 't1w'),
            ('grid_flair', 'flair'),
            ('grid_mask', 'mask'),
        ]),
        (inputnode, table, [
            ('grid_tissue', 'tissue'),
            ('grid_lesions', 'lesions'),
            ('grid_deep_gm', 'deep_gm'),
        ]),
        (table, outputnode, [('table', 'table'), ('samples', 'samples')]),
        (synthesise, outputnode, [
            ('facts', 'facts'),
            ('warnings', 'warnings'),
            ('distance', 'distance'),
        ]),
    ])  # fmt: skip
    for kind in map_kinds(bundle, settings):
        native = pe.Node(ToNative(), name=f'{kind}_to_native', mem_gb=1.0)
        workflow.connect([
            (synthesise, native, [(kind, 'image')]),
            (inputnode, native, [('mask', 'reference'), ('grid_mask', 'mask')]),
            (native, outputnode, [('image', kind)]),
            (synthesise, outputnode, [(kind, f'grid_{kind}')]),
            (synthesise, table, [(kind, kind)]),
        ])  # fmt: skip
    if lesions:
        pairs = pe.Node(FindLesionPairs(), name='lesion_pairs', mem_gb=1.5)
        described = pe.Node(DescribeLesions(), name='describe_lesions', mem_gb=1.0)
        workflow.connect([
            (inputnode, pairs, [
                ('grid_t1w', 't1w'),
                ('grid_mask', 'brain'),
                ('grid_tissue', 'tissue'),
                ('grid_lesions', 'lesions'),
            ]),
            (inputnode, described, [('grid_t1w', 't1w'), ('grid_flair', 'flair')]),
            (pairs, described, [('pairs', 'pairs')]),
            (synthesise, described, [('mean', 'synthetic')]),
            (described, outputnode, [('lesions', 'lesion_pairs')]),
        ])  # fmt: skip
    return workflow


def _sampling(bundle: Bundle, settings: Settings) -> str:
    """Say how a model that samples was sampled."""
    diffusion = sampling(bundle.metadata)
    if diffusion is None:
        return ''
    draws = draws_of(bundle.metadata, settings.processing.n_samples)
    steps = diffusion['sampling_steps']
    if diffusion['sampler'] == BRIDGE:
        return (
            f'It was estimated by {"one evaluation" if steps == 1 else f"{steps} evaluations"} of '
            'the denoiser, without noise, from the latent of both images [@indi]. '
        )
    start = '' if diffusion['strength'] == 1 else ' from the noised latent of both images'
    return (
        f'It is {f"the mean of {draws} draws" if draws > 1 else "a single draw"}, sampled by '
        f'{diffusion["sampler"]} in {steps} step{"s" if steps > 1 else ""}{start}. '
    )
