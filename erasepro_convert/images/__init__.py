"""Drawing pictures with a checkpoint, through diffusers and without any network."""
