"""Predictors of PSR and the bundle they are stored in."""
