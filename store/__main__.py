"""`python -m store`: the same as `hindsight`."""

from store.cli import main

if __name__ == "__main__":
    main(prog_name="hindsight")
