"""`python -m tvae_core.reproduce`: see `tvae_core.experiments.reproduce`."""

from tvae_core.experiments.reproduce import main

if __name__ == "__main__":
    main()
