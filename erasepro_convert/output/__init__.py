"""From planned tensors to a complete file, object or folder, or nothing."""
