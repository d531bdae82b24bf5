"""Threads of PyTorch, for as long as they are wanted."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Give PyTorch so many threads, and afterwards what it had.

    Whoever calls demist as a library, and the next step in the same process, keeps its own number.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
