"""Attacks that try to bring an erased concept back; a detector judges the pictures."""
