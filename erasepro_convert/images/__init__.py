"""Pictures made by a checkpoint, through diffusers and without any network."""
