"""Circles and squares: data of the bundle my_bundle."""
