"""The figure: quality over seconds, and which arms nothing beats in both."""

from pathlib import Path

import pandas as pd
from drawing import drawn
from speed.arms import ARMS, Stock

PANELS = {'psnr_1': 'PSNR of one draw (dB)', 'ssim_1': 'SSIM of one draw'}
OURS, STOCK, FRONT = '#d55e00', '#0072b2', '#b0b0b0'


def front(made: pd.DataFrame, score: str) -> list[str]:
    """Return the arms that no other beats in both seconds and score, fastest first."""
    kept: list[str] = []
    best = float('-inf')
    for name, row in made.sort_values('seconds').iterrows():
        if row[score] > best:
            kept.append(str(name))
            best = row[score]
    return kept


def draw_pareto(made: pd.DataFrame, path: Path) -> None:
    """Draw the scores of one draw over seconds per brain, as SVG and PNG.

    Parameters
    ----------
    made : DataFrame
        By arm: ``seconds`` and the scores.
    path : Path
        Without suffix.
    """
    with drawn(path, (8.6, 3.2), 'constrained') as figure:
        for axes, (score, label) in zip(figure.subplots(1, 2), PANELS.items(), strict=True):
            shown = made.dropna(subset=score).sort_values('seconds')
            on = shown.loc[front(shown, score)]
            axes.plot(on['seconds'], on[score], color=FRONT, linewidth=1, zorder=1)
            # numbers, since names of neighbours would lie upon each other
            arms = [
                axes.scatter(
                    row['seconds'],
                    row[score],
                    color=STOCK if isinstance(ARMS[str(name)], Stock) else OURS,
                    marker=f'${number}$',
                    s=45,
                    linewidths=0.4,
                    label=name,
                    zorder=2,
                )
                for number, (name, row) in enumerate(shown.iterrows(), 1)
            ]
            axes.set(xscale='log', xlabel='seconds per draw of one brain', ylabel=label)
            axes.margins(x=0.25, y=0.12)
            axes.spines[['top', 'right']].set_visible(False)
        figure.legend(handles=arms, loc='outside right center', frameon=False, fontsize=8)
