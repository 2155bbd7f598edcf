"""Write the explorer's scripts, with the trained models in them, into a folder.

    python tools/export_explorer.py FOLDER

The book does this whenever it is built. For a page of your own, put FOLDER beside it, and in it

    <tvae-explorer view="all" model="affine-iwae5"></tvae-explorer>
    <script src="FOLDER/explorer.js"></script>

The page must be in UTF-8 (<meta charset="utf-8">).
"""

import argparse
from pathlib import Path

from tvae_core.explorer.export import write_page_files


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="is made where it is missing")
    folder = parser.parse_args().folder
    write_page_files(folder)
    for path in sorted(folder.glob("*.js")):
        print(f"{path.stat().st_size:>9,}  {path}")


if __name__ == "__main__":
    main()
