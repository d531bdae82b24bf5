"""Tissue labels of the phantom head, shared by everything that reads or writes them."""

from __future__ import annotations

from enum import IntEnum


class Label(IntEnum):
    """Hard tissue labels. Values below 20 lie inside the brain mask."""

    AIR = 0
    CSF_VENTRICLE = 1
    CSF_SULCAL = 2
    CORTICAL_GM = 3
    CAUDATE = 4
    PUTAMEN = 5
    PALLIDUM = 6
    THALAMUS = 7
    WM = 8
    CORPUS_CALLOSUM = 9
    CEREBELLAR_GM = 10
    CEREBELLAR_WM = 11
    BRAINSTEM = 12
    LESION = 13
    CSF_SUBARACHNOID = 20
    DURA = 21
    SKULL_TABLE = 22
    MARROW = 23
    FAT = 24
    MUSCLE = 25
    SKIN = 26
    EYE = 27
    LENS = 28
    FACE = 29
    SINUS = 30
    SPINAL_CORD = 31
    VESSEL = 32
    NERVE = 33
    CARTILAGE = 34


BRAIN: frozenset[Label] = frozenset(label for label in Label if 0 < label < 20)
"""The labels that make up the brain mask (sulcal CSF included)."""
