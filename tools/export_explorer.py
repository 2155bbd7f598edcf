"""Write the explorer's scripts, including the trained models, to a folder.

    python tools/export_explorer.py FOLDER

Building the book does this too. To use the explorer on a page of your own, put FOLDER next to the
page, and put this into the page:

    <tvae-explorer view="all" model="affine-iwae5"></tvae-explorer>
    <script src="FOLDER/explorer.js"></script>

The page must be encoded in UTF-8 (<meta charset="utf-8">).
"""

import argparse
from pathlib import Path

from tvae_core.explorer.export import write_page_files


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="created if it does not exist")
    folder = parser.parse_args().folder
    write_page_files(folder)
    for path in sorted(folder.glob("*.js")):
        print(f"{path.stat().st_size:>9,}  {path}")


if __name__ == "__main__":
    main()
