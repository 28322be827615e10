"""``python -m serein`` is ``serein``."""

from serein.cli import main

if __name__ == "__main__":
    main()
