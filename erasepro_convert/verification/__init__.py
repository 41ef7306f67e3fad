"""Verification: is a checkpoint what its manifest says?  Every deviation is listed."""

from erasepro_convert.verification.finding import Finding
from erasepro_convert.verification.verify import Request, Verified, verify

__all__ = ["Finding", "Request", "Verified", "verify"]
