"""T1w and FLAIR from any scanner to the grid and the intensities the models expect."""

from pathlib import Path

from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe
from niworkflows.engine.workflows import LiterateWorkflow

from bids_layout.pairing import Unit
from demist_app.interfaces.anatomical import (
    BrainMask,
    CheckInputs,
    Conform,
    CorrectBias,
    RegisterRigid,
)
from demist_app.interfaces.tissue import DeepGrey, SegmentTissue
from demist_app.settings import Settings


def init_anat_preproc_wf(
    *, unit: Unit, settings: Settings, name: str = 'anat_preproc_wf'
) -> LiterateWorkflow:
    """Build the anatomical preprocessing of one unit.

    Brain mask, N4 inside the brain, rigid FLAIR to T1w, one interpolation to a 1 mm RAS grid
    cropped to the brain, and normalisation by the brain's 99.5 percentile (paper, section 3,
    "Dataset and Preprocessing").

    Parameters
    ----------
    unit : Unit
        The pair of scans and what derivatives know of it.
    settings : Settings

    Outputs
    -------
    t1w, flair, mask
        Native grid of the T1w, RAS; T1w and FLAIR bias-corrected, FLAIR resampled.
    grid_t1w, grid_flair, grid_mask, grid_lesions, grid_tissue, grid_deep_gm
        1 mm grid; intensities in [0, 1].
    itk, x5
        FLAIR to T1w.
    raw_flair
        FLAIR as acquired, RAS, for the before/after figure.
    warnings, facts
        For the report.
    """
    threads = settings.execution.omp_nthreads
    spacing = 8.0 if settings.processing.sloppy else 4.0
    workflow = LiterateWorkflow(name=name)
    workflow.__desc__ = _describe(unit, settings)

    outputnode = pe.Node(
        niu.IdentityInterface(
            fields=[
                't1w', 'flair', 'mask', 'itk', 'x5', 'raw_flair',
                'grid_t1w', 'grid_flair', 'grid_mask', 'grid_lesions', 'grid_tissue',
                'grid_deep_gm', 'input_warnings', 'mask_warnings', 'registration_warnings',
                'facts', 'stripped', 'mask_origin', 'brain_volume_ml',
                'rotation_deg', 'translation_mm',
            ]
        ),
        name='outputnode',
    )  # fmt: skip
    check = pe.Node(
        CheckInputs(
            t1w=str(anatomical_reference(unit, settings)),
            flair=str(unit.flair),
            t1w_metadata=dict(unit.metadata['T1w']),
            flair_metadata=dict(unit.metadata['FLAIR']),
        ),
        name='check_inputs',
        mem_gb=1.0,
    )
    mask = pe.Node(
        BrainMask(
            source=str(anatomical_reference(unit, settings)),
            mode=settings.processing.skull_strip,
            num_threads=threads,
        ),
        name='brain_mask',
        mem_gb=2.0,
        n_procs=threads,
    )
    if unit.brain_mask:
        mask.inputs.given = str(unit.brain_mask)
    register = pe.Node(RegisterRigid(), name='register_flair', mem_gb=2.0)
    bias_t1w = pe.Node(
        CorrectBias(spacing=spacing, num_threads=threads),
        name='bias_t1w',
        mem_gb=1.5,
        n_procs=threads,
    )
    bias_flair = pe.Node(
        CorrectBias(spacing=spacing, num_threads=threads),
        name='bias_flair',
        mem_gb=1.5,
        n_procs=threads,
    )
    conform = pe.Node(Conform(lesion_space=unit.lesion_space or 'T1w'), name='conform', mem_gb=2.0)
    if unit.lesion_mask:
        conform.inputs.lesions = str(unit.lesion_mask)
    tissue = pe.Node(SegmentTissue(), name='segment_tissue', mem_gb=1.5)

    workflow.connect([
        (check, mask, [('t1w', 't1w'), ('stripped', 'stripped')]),
        (bias_t1w, register, [('image', 'fixed')]),
        (check, register, [('flair', 'moving')]),
        (mask, register, [('mask', 'fixed_mask')]),
        (check, bias_t1w, [('t1w', 'image')]),
        (mask, bias_t1w, [('mask', 'mask')]),
        (check, bias_flair, [('flair', 'image')]),
        (register, bias_flair, [('mask', 'mask')]),
        (bias_t1w, conform, [('image', 't1w')]),
        (bias_flair, conform, [('image', 'flair')]),
        (mask, conform, [('mask', 'mask')]),
        (register, conform, [('itk', 'itk')]),
        (conform, tissue, [('t1w', 't1w'), ('flair', 'flair'), ('mask', 'mask')]),
        (check, outputnode, [
            ('flair', 'raw_flair'),
            ('warnings', 'input_warnings'),
            ('facts', 'facts'),
            ('stripped', 'stripped'),
        ]),
        (mask, outputnode, [
            ('mask', 'mask'),
            ('warnings', 'mask_warnings'),
            ('origin', 'mask_origin'),
            ('volume_ml', 'brain_volume_ml'),
        ]),
        (register, outputnode, [
            ('itk', 'itk'),
            ('x5', 'x5'),
            ('warnings', 'registration_warnings'),
            ('rotation_deg', 'rotation_deg'),
            ('translation_mm', 'translation_mm'),
        ]),
        (bias_t1w, outputnode, [('image', 't1w')]),
        (conform, outputnode, [
            ('flair_in_t1w', 'flair'),
            ('t1w', 'grid_t1w'),
            ('flair', 'grid_flair'),
            ('mask', 'grid_mask'),
        ]),
        (tissue, outputnode, [('labels', 'grid_tissue')]),
    ])  # fmt: skip
    if unit.lesion_mask:
        workflow.connect([
            (conform, tissue, [('lesions', 'lesions')]),
            (conform, outputnode, [('lesions', 'grid_lesions')]),
        ])  # fmt: skip
    if unit.dseg and unit.dseg_lookup:
        deep_grey = pe.Node(
            DeepGrey(dseg=str(unit.dseg), lookup=str(unit.dseg_lookup)),
            name='deep_grey',
            mem_gb=1.0,
        )
        workflow.connect([
            (conform, deep_grey, [('mask', 'reference')]),
            (deep_grey, outputnode, [('mask', 'grid_deep_gm')]),
        ])  # fmt: skip
    return workflow


def anatomical_reference(unit: Unit, settings: Settings) -> Path:
    """Return the T1w whose coordinates all results share.

    A brain mask made elsewhere lies on the T1w it was made from; where that is a preprocessed
    one (of sMRIPrep or fMRIPrep), its coordinates may differ from those of the raw scan.
    """
    if settings.processing.skull_strip != 'force' and unit.brain_mask_reference:
        return unit.brain_mask_reference
    return unit.t1w


def _describe(unit: Unit, settings: Settings) -> str:
    """Tell the reader of a paper what was done to the scans."""
    if unit.brain_mask and settings.processing.skull_strip != 'force':
        brain = 'The brain mask was taken from a derivative data set. '
    elif settings.processing.skull_strip == 'skip':
        brain = 'The T1w image was taken as already skull-stripped. '
    else:
        brain = (
            'Unless the T1w image was already skull-stripped, the brain was extracted with a '
            'contrast-agnostic convolutional network trained on synthetic heads, after the idea '
            'of SynthStrip [@synthstrip]. '
        )
    return (
        'The T1-weighted (T1w) and FLAIR images were reoriented to RAS. '
        + brain
        + 'Both images were corrected for intensity non-uniformity inside the brain with N4 [@n4] '
        'as implemented in SimpleITK [@simpleitk]. The FLAIR image was registered rigidly to the '
        'corrected T1w image with *greedy* [@greedy], maximising normalised mutual information '
        '[@nmi]. Both were resampled in a single cubic B-spline interpolation to an isotropic grid '
        'of 1 mm, and '
        'scaled so that 0 remained 0 and the 99.5th percentile inside the brain became 1. '
    )
