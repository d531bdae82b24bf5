"""The command line: arguments to settings, settings to a run, a run to one verdict."""
