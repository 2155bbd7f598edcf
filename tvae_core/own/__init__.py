"""Your own images: from a folder of pictures to aligned pictures and a table of poses.

folders     reads a folder
"""

from tvae_core.own.folders import Folder as Folder
from tvae_core.own.folders import from_folder as from_folder
