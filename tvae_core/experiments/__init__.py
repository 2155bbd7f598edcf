"""What makes the book's numbers.

configs         what each run is, and its name
runner          trains and evaluates runs, and keeps them
reproduce       the command that trains many runs
measure         the command that measures trained models more closely
records         what a run leaves behind
archive         all records of the book in a few compact files
frames          records as DataFrames
results         the weights and records that ship with the package
study           the numbers that the reproduced study printed
fingerprint     a hash of what code computes, so that records made by other code are noticed
acceleration    faster steps with the same results
stacking        several seeds trained as one model
"""

from tvae_core.experiments.runner import PAPER_ON_CPU as PAPER_ON_CPU
from tvae_core.experiments.runner import PROFILES as PROFILES
from tvae_core.experiments.runner import Job as Job
from tvae_core.experiments.runner import Profile as Profile
from tvae_core.experiments.runner import current_profile as current_profile
from tvae_core.experiments.runner import load_data as load_data
from tvae_core.experiments.runner import run as run
from tvae_core.experiments.runner import run_seeds as run_seeds
