"""What everything else stands on: threads, memory, element types, digests, signals."""
