"""Your own images: from a folder of pictures to aligned pictures and a table of poses.

folders     reads a folder
pixels      what a pixel may be: likelihoods by name
expected    what you expect of the poses, in degrees, pixels and per cent
convolutions  layers for larger pictures
shards      training as several processes
training    trains a model on any images, and names what goes wrong
aligning    poses, clusters and aligned images of a trained model
report      the page that shows them
command     `python -m tvae_core.align`, which does all of this
"""

from tvae_core.checks import hold
from tvae_core.own import aligning, convolutions, expected, folders, pixels, shards, training

# Before functions are taken from them.
for _room in (aligning, convolutions, expected, folders, pixels, shards, training):
    hold(_room)

from tvae_core.own.folders import Folder as Folder  # noqa: E402
from tvae_core.own.folders import from_folder as from_folder  # noqa: E402
from tvae_core.own.training import Trained as Trained  # noqa: E402
from tvae_core.own.training import train as train  # noqa: E402
