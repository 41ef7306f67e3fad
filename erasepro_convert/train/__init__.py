"""Gradient methods: part of the U-Net trained until targets are denoised as something else."""
