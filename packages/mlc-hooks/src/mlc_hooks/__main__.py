"""`python -m mlc_hooks`: the `mlc` command of exactly this interpreter."""

from mlc_hooks.cli import main

__all__: list[str] = []

if __name__ == "__main__":
    main()
