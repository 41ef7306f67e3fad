"""What brings an erased concept back: attacks on a pair of checkpoints, judged on pictures."""
