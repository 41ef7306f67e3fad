"""``python -m erasepro_convert``: the same as the ``erasepro-convert`` command."""

from erasepro_convert.cli import main

if __name__ == "__main__":
    main()
