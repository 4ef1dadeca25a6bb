"""Checks of this project's own rules; run by `make lint`."""
