"""From normalised scans to PSR maps in the space of the T1w."""

from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe
from niworkflows.engine.workflows import LiterateWorkflow

from demist_app.interfaces.synthesis import RegionalTable, Synthesise, ToNative
from demist_app.model.bundle import Bundle
from demist_app.settings import Settings


def init_synthesis_wf(
    *, bundle: Bundle, settings: Settings, seed: int, device: str, name: str = 'synthesis_wf'
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

    Inputs
    ------
    grid_t1w, grid_flair, grid_mask, grid_lesions, grid_tissue, grid_deep_gm
        As `init_anat_preproc_wf` gives them.
    mask
        Brain on the native grid of the T1w.

    Outputs
    -------
    mean, sd
        Percent, native grid of the T1w.
    grid_mean, grid_sd
        Percent, 1 mm grid.
    table, samples
        Regional values, as TSV and for the figure.
    facts, warnings, distance
        For the sidecars and the report.
    """
    workflow = LiterateWorkflow(name=name)
    workflow.__desc__ = (
        'A map of the macromolecular-to-free pool size ratio (PSR, in percent) was synthesised '
        f'from both images with *demist* [@demist], model {bundle.name} '
        f'(sha256 {bundle.sha256[:12]}), {bundle.metadata["description"]} '
        'The map is synthetic, not measured. '
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
                'facts', 'warnings', 'distance',
            ]
        ),
        name='outputnode',
    )  # fmt: skip
    synthesise = pe.Node(
        Synthesise(
            bundle=str(bundle.path),
            bundle_sha256=bundle.sha256,
            n_samples=settings.processing.n_samples,
            seed=seed,
            device=device,
            use_gpu=device != 'cpu',
            num_threads=settings.execution.omp_nthreads,
        ),
        name='synthesise',
        mem_gb=2.0,
        n_procs=settings.execution.omp_nthreads,
    )
    native_mean = pe.Node(ToNative(), name='mean_to_native', mem_gb=1.0)
    native_sd = pe.Node(ToNative(), name='sd_to_native', mem_gb=1.0)
    table = pe.Node(RegionalTable(), name='regional_table', mem_gb=1.0)
    workflow.connect([
        (inputnode, synthesise, [
            ('grid_t1w', 't1w'),
            ('grid_flair', 'flair'),
            ('grid_mask', 'mask'),
        ]),
        (synthesise, native_mean, [('mean', 'image')]),
        (synthesise, native_sd, [('sd', 'image')]),
        (inputnode, native_mean, [('mask', 'reference'), ('grid_mask', 'mask')]),
        (inputnode, native_sd, [('mask', 'reference'), ('grid_mask', 'mask')]),
        (synthesise, table, [('mean', 'mean'), ('sd', 'sd')]),
        (inputnode, table, [
            ('grid_tissue', 'tissue'),
            ('grid_lesions', 'lesions'),
            ('grid_deep_gm', 'deep_gm'),
        ]),
        (native_mean, outputnode, [('image', 'mean')]),
        (native_sd, outputnode, [('image', 'sd')]),
        (table, outputnode, [('table', 'table'), ('samples', 'samples')]),
        (synthesise, outputnode, [
            ('mean', 'grid_mean'),
            ('sd', 'grid_sd'),
            ('facts', 'facts'),
            ('warnings', 'warnings'),
            ('distance', 'distance'),
        ]),
    ])  # fmt: skip
    return workflow
