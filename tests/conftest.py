"""What the laws of tvae_core run under."""

import torch

# Their tensors are tiny: a second thread would only wait for the first. And sums in one order
# make results the same bit for bit.
torch.set_num_threads(1)
