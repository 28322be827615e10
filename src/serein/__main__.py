"""``python -m serein`` runs the command line."""

from serein.cli import main

if __name__ == "__main__":
    main()
