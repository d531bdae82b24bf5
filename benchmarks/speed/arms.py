"""What is compared: the stock recipe, and demist with samplers, numbers of steps, and windows."""

from dataclasses import dataclass

from demist_app.model.presets import BRIDGE


@dataclass(frozen=True)
class Stock:
    """`speed.reference.Reference`; with fewer than all steps made, time is scaled by their count.

    Attributes
    ----------
    title, sampler : str
    steps, limit : int
        Evaluations of the recipe, and those that are made here.
    """

    title: str
    sampler: str
    steps: int
    limit: int

    @property
    def whole(self) -> bool:
        """Whether there is a map to judge."""
        return self.limit == self.steps


@dataclass(frozen=True)
class Ours:
    """`DiffusionPredictor` with this sampling, in windows of `edge` latent voxels if given.

    Attributes
    ----------
    title : str
    sampler : str
    steps : int
    strength : float
    edge : int, optional
    student : bool
        With the weights of stage 3.
    """

    title: str
    sampler: str
    steps: int
    strength: float = 1.0
    edge: int | None = None
    student: bool = False
    whole = True


ARMS: dict[str, Stock | Ours] = {
    'stock-ddim-50': Stock('stock MONAI, DDIM, windows', 'ddim', 50, 50),
    'stock-ddpm-1000': Stock('stock MONAI, DDPM, windows', 'ddpm', 1000, 5),
    'ddim-50': Ours('DDIM from noise', 'ddim', 50),
    'ddim-8': Ours('DDIM from noise', 'ddim', 8),
    'dpmpp-8': Ours('DPM-Solver++(2M) from noise', 'dpmpp_2m', 8),
    'dpmpp-4': Ours('DPM-Solver++(2M) from noise', 'dpmpp_2m', 4),
    'warm-4': Ours('DPM-Solver++(2M) from z_c, 25 % noise', 'dpmpp_2m', 4, 0.25),
    'warm-2': Ours('DPM-Solver++(2M) from z_c, 25 % noise', 'dpmpp_2m', 2, 0.25),
    'warm-2-windows': Ours('the same in fused windows of 96 mm', 'dpmpp_2m', 2, 0.25, 24),
    'warm-1': Ours('one step from z_c, 25 % noise', 'ddim', 1, 0.25),
    'warm-1-low': Ours('one step from z_c, 10 % noise', 'ddim', 1, 0.1),
    'student': Ours('distilled, one evaluation', BRIDGE, 1, 0.25, student=True),
}
"""By the name on the command line."""


def student(name: str) -> bool:
    """Tell whether an arm has the weights of stage 3."""
    arm = ARMS[name]
    return isinstance(arm, Ours) and arm.student
