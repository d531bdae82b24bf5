"""demist: quantitative myelin maps from T1w and FLAIR, as a BIDS App."""

__version__ = '0.1.0'
