"""The figures: ROC curves (the paper's figure 2), and a patient and a control (its figure 3)."""

import textwrap
from dataclasses import dataclass
from pathlib import Path

import nibabel as nb
import numpy as np
from common import Mask, load
from drawing import drawn
from lesions import BRIGHT, CONTRASTS, ORACLE
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.patches import Rectangle
from table1.gather import NOISE_FREE, Results, Unit, lesion_means, title_of

from demist_app.evaluation.lesions import PARTNERS, pair_scores
from demist_app.evaluation.roc import auc, roc_points
from demist_app.phantom.labels import Label

PSR = ScalarMappable(Normalize(0, 16), 'magma')  # percent
ZOOM_MM = 44.0
MARGIN_MM = 3.0  # around the brain
PANELS = 8  # in one line
WIDTH, TALL, GAP, LABEL, HEADING, FOOT = 1.2, 1.5, 0.04, 0.32, 0.3, 0.55  # inches
SIMPLE = {'color': '#8a8a8a', 'linewidth': 1.0}
STYLES = {
    'mean': {**SIMPLE, 'linestyle': ':'},
    'linear': {**SIMPLE, 'linestyle': '--'},
    'boosting': {**SIMPLE, 'linestyle': '-.'},
    'unet': SIMPLE,
    'klgan': {'color': '#56b4e9', 'linewidth': 1.2},
    'vqvae': {'color': '#0072b2', 'linewidth': 1.2},
    'cwdm': {'color': '#009e73', 'linewidth': 1.6},
    'ftldm': {'color': '#cc79a7', 'linewidth': 1.2},
    'ftldm+controlnet': {'color': '#e69f00', 'linewidth': 1.2, 'linestyle': '--'},
    'ftldm+lora': {'color': '#e69f00', 'linewidth': 1.2, 'linestyle': ':'},
    'demist-tokens': {'color': '#e69f00', 'linewidth': 1.2, 'linestyle': '-.'},
    'demist': {'color': '#d55e00', 'linewidth': 2.4, 'zorder': 2.5},
}
FLAIR_STYLE = {'color': '#c8b400', 'linewidth': 1.2, 'linestyle': (0, (1, 1))}
ORACLE_STYLE = {'color': 'black', 'linewidth': 1.4, 'zorder': 3}


def draw_roc(found: Results, path: Path) -> None:
    """Draw how well the mean PSR of lesions tells them from NAWM, of all kinds and of each."""
    styles = {ORACLE: ORACLE_STYLE, BRIGHT: FLAIR_STYLE}
    styles |= {title_of(method): STYLES[method] for method in found.methods}
    tables = {title: lesion_means(found, title) for title in styles}
    with drawn(path, (8.6, 2.6), 'constrained') as figure:
        for axes, partner in zip(figure.subplots(1, 3, sharey=True), PARTNERS, strict=True):
            for title, style in styles.items():
                labels, scores, _ = pair_scores(tables[title], partner, bright=title == BRIGHT)
                name = title.strip('*') + f' {auc(labels, scores):.2f}'
                axes.plot(*roc_points(labels, scores), label=name, clip_on=False, **style)
            axes.plot([0, 1], [0, 1], color='#d0d0d0', linewidth=0.6, zorder=0)
            axes.set(xlim=(0, 1), ylim=(0, 1), aspect='equal', title=f'Lesions against {partner}')
            axes.set_xlabel('1 − specificity')
            axes.spines[['top', 'right']].set_visible(False)
        figure.axes[0].set_ylabel('sensitivity')
        figure.axes[0].set_title('Lesions against all NAWM')
        handles, names = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, names, loc='outside right center', frameon=False, fontsize=7,
                      title='AUC, all NAWM', title_fontsize=7, handlelength=3)  # fmt: skip


@dataclass(frozen=True)
class Example:
    """What is shown of a unit: an axial slice, cut to the brain, and a square of it.

    Attributes
    ----------
    unit : Unit
    heading : str
    plane : int
        Number of the slice.
    box : tuple of slice
        Of the brain in it.
    corner, edge : tuple of float, float
        Of the square, voxels of the slice as cut.
    """

    unit: Unit
    heading: str
    plane: int
    box: tuple[slice, slice]
    corner: tuple[float, float]
    edge: float

    @classmethod
    def around(cls, unit: Unit, heading: str, shown: Mask) -> 'Example':
        """Take the slice with most of a mask, and the square about its middle there."""
        image = nb.load(f'{unit.made}_desc-brain_mask.nii.gz')
        voxel = float(image.header.get_zooms()[0])
        margin, edge = round(MARGIN_MM / voxel), ZOOM_MM / voxel
        plane = int(shown.sum(axis=(0, 1)).argmax())
        box = tuple(
            slice(max(0, int(found.min()) - margin), int(found.max()) + 1 + margin)
            for found in np.nonzero(unit.brain[:, :, plane])
        )
        middle = [float(found.mean()) for found in np.nonzero(shown[:, :, plane][box])]
        corner = (middle[0] - edge / 2, middle[1] - edge / 2)
        return cls(unit, heading, plane, box, corner, edge)

    def draw(self, title: str, label: str, whole: Axes, near: Axes) -> None:
        """Draw one map: the slice, and the square below it."""
        cut = self.unit.maps[title][:, :, self.plane][self.box].T
        grey = title in CONTRASTS
        look = (
            {'cmap': 'gray', 'vmin': 0, 'vmax': 1} if grey else {'cmap': PSR.cmap, 'norm': PSR.norm}
        )
        for axes in (whole, near):
            axes.imshow(cut, origin='lower', interpolation='nearest', **look)
            axes.set_facecolor('black')
            axes.set(xticks=[], yticks=[])
        (x, y), edge = self.corner, self.edge
        whole.add_patch(
            Rectangle(self.corner, edge, edge, fill=False, edgecolor='white', linewidth=0.7)
        )
        near.set(xlim=(x, x + edge), ylim=(y, y + edge))
        whole.set_title(label, pad=3, fontsize=6.5)


def examples(found: Results) -> list[Example]:
    """Choose the patient with the largest lesion, and the first control."""
    shown = []
    if found.scans:
        scan = max(found.scans, key=lambda scan: max(len(pair.lesion) for pair in scan.pairs))
        unit = next(unit for unit in found.units if unit.participant == scan.participant)
        lesion = np.zeros(unit.brain.shape, bool)
        lesion.ravel()[max((pair.lesion for pair in scan.pairs), key=len)] = True
        shown.append(Example.around(unit, 'patient, zoom on the largest lesion', lesion))
    controls = [unit for unit in found.units if unit.group == 'control']
    for unit in controls[:1]:
        putamen = load(unit.phantom('dseg')) == Label.PUTAMEN
        putamen[: len(putamen) // 2] = False  # one of the two
        shown.append(Example.around(unit, 'control, zoom on the putamen', putamen))
    return shown


def draw_examples(found: Results, path: Path) -> None:
    """Draw the images, the measured map and those of all methods side by side."""
    shown = examples(found)
    psnr = found.scores.set_index(['participant_id', 'session_id', 'method'])['psnr']
    lines = -(-(4 + len(found.methods)) // PANELS)
    columns = -(-(4 + len(found.methods)) // lines)
    step = LABEL + TALL + GAP + WIDTH + GAP
    size = columns * (WIDTH + GAP) + GAP, len(shown) * (HEADING + lines * step) + FOOT
    with drawn(path, size) as figure:

        def place(left: float, top: float, width: float, height: float) -> Axes:
            x, y = size
            return figure.add_axes((left / x, 1 - (top + height) / y, width / x, height / y))

        for number, example in enumerate(shown):
            top = number * (HEADING + lines * step)
            unit = example.unit
            figure.text(
                GAP / size[0],
                1 - (top + 0.08) / size[1],
                f'{unit.name}: {example.heading}',
                fontsize=9,
                fontweight='bold',
                va='top',
            )
            labels = {title: title.split()[0] for title in reversed(CONTRASTS)}
            labels |= {ORACLE: 'measured', NOISE_FREE: 'noise-free fit'}
            for method in found.methods:
                value = psnr[unit.participant, unit.session, method]
                title = title_of(method)
                labels[title] = f'{textwrap.fill(title, 22)}\n{value:.2f} dB'
            for place_of, (title, label) in enumerate(labels.items()):
                line, column = divmod(place_of, columns)
                left, down = GAP + column * (WIDTH + GAP), top + HEADING + line * step + LABEL
                whole = place(left, down, WIDTH, TALL)
                example.draw(title, label, whole, place(left, down + TALL + GAP, WIDTH, WIDTH))
        bar = figure.colorbar(
            PSR, cax=place(0.2, size[1] - 0.45, 2.5, 0.1), orientation='horizontal'
        )
        bar.set_label('PSR (%)', labelpad=1)
        note = (
            'Axial, left is left.\ndB: PSNR of the whole brain, out of fold.\n'
            f'Squares: {ZOOM_MM:.0f} mm.'
        )
        figure.text(3.0 / size[0], 0.3 / size[1], note, va='center', fontsize=7)
