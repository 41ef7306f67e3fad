"""Verification: is a checkpoint what its manifest says?  Every deviation is listed."""

from erasepro_convert.verification.finding import Finding
from erasepro_convert.verification.verify import Verified, verify

__all__ = ["Finding", "Verified", "verify"]
