"""Commands that make the models the package ships."""
