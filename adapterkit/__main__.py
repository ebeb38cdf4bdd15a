"""`python -m adapterkit`, so that `accelerate launch -m adapterkit train …` works."""

from adapterkit.cli import main

if __name__ == "__main__":
    main()
