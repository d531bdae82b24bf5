"""PSR maps in a standard space: registration, resampling, outputs and figure."""

from collections.abc import Sequence
from typing import Any

from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe
from niworkflows.engine.workflows import LiterateWorkflow

from bids_layout.pairing import Unit
from demist_app.imaging.templates import Template
from demist_app.interfaces.figures import PlotMask
from demist_app.interfaces.template import RegisterTemplate, ToTemplate
from demist_app.settings import Settings
from demist_app.workflows.outputs import MAPS, Sinks


def init_template_wf(
    *, template: Template, unit: Unit, settings: Settings, kinds: Sequence[str]
) -> LiterateWorkflow:
    """Build the branch that carries a unit's maps to one template.

    Parameters
    ----------
    template : Template
    unit : Unit
    settings : Settings
    kinds : sequence of str
        The maps there are: ``mean``, ``sd``.

    Inputs
    ------
    t1w, mask, mean, sd
        Native grid of the T1w.
    meta_mean, meta_sd
        Sidecars of the native maps.

    Outputs
    -------
    done
        Defined when all files are in place.
    """
    threads = settings.execution.omp_nthreads
    workflow = LiterateWorkflow(name=f'template_{template.name}_wf')
    workflow.__desc__ = (
        f'Maps were also resampled to {template.name} [@templateflow], to which the T1w image was '
        'registered by an affine and a deformable transform with *greedy* [@greedy]. '
    )
    inputnode = pe.Node(
        niu.IdentityInterface(fields=['t1w', 'mask', 'mean', 'sd', 'meta_mean', 'meta_sd']),
        name='inputnode',
    )
    register = pe.Node(
        RegisterTemplate(
            template=str(template.t1w), template_mask=str(template.mask), num_threads=threads
        ),
        name='register_template',
        mem_gb=3.0,
        n_procs=threads,
    )
    workflow.connect([(inputnode, register, [('t1w', 't1w'), ('mask', 'mask')])])
    sinks = Sinks(workflow, unit, settings)
    space: dict[str, Any] = {'space': template.name}
    if template.resolution:
        space['resolution'] = template.resolution
    xfm: dict[str, Any] = {'from': 'T1w', 'to': template.name, 'mode': 'image', 'suffix': 'xfm'}
    done = [
        sinks.add('warp', register, 'warp', compress=True, **xfm),
    ]
    for kind in ('t1w', *kinds):
        warp = pe.Node(
            ToTemplate(template_mask=str(template.mask), num_threads=threads),
            name=f'{kind}_to_template',
            mem_gb=1.5,
            n_procs=threads,
        )
        workflow.connect([
            (inputnode, warp, [(kind, 'image')]),
            (register, warp, [('warp', 'warp')]),
        ])  # fmt: skip
        if kind == 't1w':
            plot = pe.Node(
                PlotMask(mask=str(template.mask), title=f'T1w in {template.name}'),
                name='plot_template',
                mem_gb=1,
            )
            workflow.connect(warp, 'image', plot, 'background')
            done.append(
                sinks.add(
                    'figure', plot, 'figure',
                    datatype='figures', desc='template', suffix='T1w', **space,
                )
            )  # fmt: skip
        else:
            done.append(
                sinks.add(
                    kind, warp, 'image', (inputnode, f'meta_{kind}'),
                    desc=MAPS[kind], suffix='PSRmap', compress=True, **space,
                )
            )  # fmt: skip
    sinks.gather(done)
    return workflow
