"""Everything behind the book's numbers.

configs         the model, the training and the name of each run
runner          trains, evaluates and stores runs
reproduce       the command that trains many runs
measure         the command that measures trained models in more detail
kinds           what that command measures, and of which models
where           models of pictures in known poses: training and measuring them, and the records
scoring         what such a model is scored by
turns           one more latent, for quarter turns of a picture
records         what is stored about a run
archive         all records of the book in a few compact files
frames          records as DataFrames
results         the weights and records that ship with the package
study           the numbers printed in the reproduced study
fingerprint     a hash of what the code computes, to detect records made by different code
acceleration    faster steps with the same results
stacking        several seeds trained as one model
"""

from tvae_core.experiments.configs import PROFILES as PROFILES
from tvae_core.experiments.configs import Profile as Profile
from tvae_core.experiments.runner import Job as Job
from tvae_core.experiments.runner import current_profile as current_profile
from tvae_core.experiments.runner import load_data as load_data
from tvae_core.experiments.runner import run as run
from tvae_core.experiments.runner import run_seeds as run_seeds
