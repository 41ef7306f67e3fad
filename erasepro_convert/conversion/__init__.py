"""One checkpoint through the erasure: read, solve, write, record."""
