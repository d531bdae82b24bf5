"""Nipype interfaces: thin, files in and files out."""
