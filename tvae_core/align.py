"""`python -m tvae_core.align`: see `tvae_core.own.command`."""

from tvae_core.own.command import main

if __name__ == "__main__":
    main()
