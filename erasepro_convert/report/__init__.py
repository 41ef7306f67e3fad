"""Reports of a manifest for people: charts, and one self-contained page."""
