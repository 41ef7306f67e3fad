"""Measurements, each printed as a whole by one command."""
