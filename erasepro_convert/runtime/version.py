"""The version of the package: in no other place, since files and manifests state it."""

__version__ = "0.1.0"
