"""`python -m tvae_core.measure`: see `tvae_core.experiments.measure`."""

from tvae_core.experiments.measure import main

if __name__ == "__main__":
    main()
