"""Measures without pictures: leak of targets, drift of others, and what words mean alike."""
