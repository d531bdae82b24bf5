"""Measures of agreement between maps."""
