"""Nipype workflow factories."""
