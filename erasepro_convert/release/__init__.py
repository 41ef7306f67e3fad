"""What a release is published with: model card, text for Civitai, evidence."""
