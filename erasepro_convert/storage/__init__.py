"""Local files and objects in stores: addresses, reading in ranges, atomic writing, uploads."""
