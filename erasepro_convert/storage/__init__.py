"""Files and objects: where they are, how they are read in parts, and how they appear whole."""
