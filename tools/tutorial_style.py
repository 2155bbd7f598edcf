"""The same models as a good tutorial would write them: what `make bench` measures against.

Plain PyTorch, nothing slow on purpose, and the habits that public implementations share: images
come one by one through a DataLoader and its transforms; k draws are k copies of an image through
the whole model; a grid, and the spline's system of equations, are made in each forward pass; the
NLL is a loop over images; the loss is read back after each batch.
"""

import math

import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset

DIM_U = {"plain": 0, "affine": 6, "tps": 18}


class Digits(Dataset):
    """Images as PIL pictures, transformed when they are asked for, as torchvision's MNIST."""

    def __init__(self, pixels, transform):
        self.pixels = pixels.squeeze(1).numpy()
        self.transform = transform

    def __len__(self):
        return len(self.pixels)

    def __getitem__(self, index):
        return self.transform(Image.fromarray(self.pixels[index], mode="L"))


def loader(pixels, batch_size, binarize):
    from torchvision import transforms  # with tvae_core.data.import_torchvision_datasets before it

    steps = [transforms.ToTensor()]
    if binarize:
        steps.append(transforms.Lambda(torch.bernoulli))
    return DataLoader(
        Digits(pixels, transforms.Compose(steps)), batch_size=batch_size, shuffle=True
    )


class TransformerVAE(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.kind, self.dim_u = kind, DIM_U[kind]
        self.dim_z = 60 - self.dim_u
        self.encoder = nn.Sequential(nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU())
        self.mu_z = nn.Linear(256, self.dim_z)
        self.log_sigma = nn.Linear(256, 60)
        self.decoder = nn.Sequential(
            nn.Linear(self.dim_z, 256),
            nn.ReLU(),
            nn.Linear(256, 256),
            nn.ReLU(),
            nn.Linear(256, 784),
        )
        if self.dim_u:
            self.mu_u = nn.Linear(256, self.dim_u)
            self.pose = nn.Linear(self.dim_u, self.dim_u)
            nn.init.normal_(self.pose.weight, std=0.1)
            nn.init.zeros_(self.pose.bias)

    def encode(self, x):
        h = self.encoder(x.view(-1, 784))
        mu = self.mu_z(h)
        if self.dim_u:
            mu = torch.cat([mu, torch.tanh(self.mu_u(h))], dim=1)
        return mu, self.log_sigma(h)

    def decode(self, latents):
        probs = torch.sigmoid(self.decoder(latents[:, : self.dim_z]))
        if self.dim_u:
            theta = self.pose(latents[:, self.dim_z :])
            grid = affine_grid(theta) if self.kind == "affine" else tps_grid(theta)
            image = F.grid_sample(probs.view(-1, 1, 28, 28), grid, align_corners=False)
            probs = image.view(-1, 784)
            probs = 1e-6 + (1 - 2e-6) * probs
        return probs

    def forward(self, x):
        mu, log_sigma = self.encode(x)
        latents = mu + torch.exp(log_sigma) * torch.randn_like(mu)
        return self.decode(latents), latents, mu, log_sigma


def affine_grid(theta):
    identity = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], device=theta.device)
    return F.affine_grid(
        theta.view(-1, 2, 3) + identity, (len(theta), 1, 28, 28), align_corners=False
    )


def tps_grid(theta):
    """Solve for the spline of each image of the batch, then evaluate it at every pixel."""
    line = torch.linspace(-1, 1, 3, device=theta.device)
    y, x = torch.meshgrid(line, line, indexing="ij")
    control = torch.stack([x.flatten(), y.flatten()], dim=1)

    def rows(points):
        squared = torch.cdist(points, control, compute_mode="donot_use_mm_for_euclid_dist") ** 2
        kernel = squared * torch.log(squared + 1e-9)
        return torch.cat([kernel, torch.ones(len(points), 1, device=theta.device), points], dim=1)

    system = torch.zeros(12, 12, device=theta.device)
    system[:9] = rows(control)
    system[9:, :9] = rows(control)[:, 9:].T
    displaced = torch.zeros(len(theta), 12, 2, device=theta.device)
    displaced[:, :9] = theta.view(-1, 2, 9).transpose(1, 2)
    weights = torch.linalg.solve(system.expand(len(theta), 12, 12), displaced)
    identity = torch.eye(2, 3, device=theta.device).unsqueeze(0)
    pixels = F.affine_grid(identity, (1, 1, 28, 28), align_corners=False).view(784, 2)
    return (pixels + rows(pixels) @ weights).view(-1, 28, 28, 2)


def log_weights(model, x, k):
    """log p(x, latents) - log q(latents | x) for k copies of each image: (k, B)."""
    copies = x.view(-1, 784).repeat(k, 1)
    probs, latents, mu, log_sigma = model(copies)
    log_lik = -F.binary_cross_entropy(probs, copies, reduction="none").sum(1)
    log_prior = (-0.5 * latents**2 - 0.5 * math.log(2 * math.pi)).sum(1)
    noise = (latents - mu) / torch.exp(log_sigma)
    log_q = (-0.5 * noise**2 - log_sigma - 0.5 * math.log(2 * math.pi)).sum(1)
    return (log_lik + log_prior - log_q).view(k, -1)


def vae_loss(model, x):
    probs, _, mu, log_sigma = model(x)
    recon = F.binary_cross_entropy(probs, x.view(-1, 784), reduction="sum")
    kl = -0.5 * torch.sum(1 + 2 * log_sigma - mu**2 - torch.exp(2 * log_sigma))
    return (recon + kl) / len(x)


def iwae_loss(model, x, k):
    return -(torch.logsumexp(log_weights(model, x, k), dim=0) - math.log(k)).mean()


def train_epoch(model, data_loader, optimizer, k):
    total = 0.0
    for x in data_loader:
        x = x.to(next(model.parameters()).device)
        loss = vae_loss(model, x) if k == 1 else iwae_loss(model, x, k)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(x)
    return total / len(data_loader.dataset)


@torch.no_grad()
def nll(model, images, k):
    """-log p(x) of each image from k draws, one image after the other."""
    values = []
    for x in images:
        log_w = log_weights(model, x.unsqueeze(0), k)
        values.append(math.log(k) - torch.logsumexp(log_w, dim=0).item())
    return torch.tensor(values)


def load_from(model, trained):
    """Take over the weights of a model of tvae_core."""
    theirs = trained.state_dict()
    names = {
        "encoder.": "encoder.body.",
        "mu_z.": "encoder.mu_z.",
        "mu_u.": "encoder.mu_u.",
        "log_sigma.": "encoder.log_sigma.",
        "pose.": "decoder.pose.",
        "decoder.4.": "decoder.{}logits.",
        "decoder.": "decoder.{}body.",
    }
    prefix = "canonical." if model.dim_u else ""

    def source(key):
        for ours, other in names.items():
            if key.startswith(ours):
                return other.format(prefix) + key.removeprefix(ours)
        raise KeyError(key)

    model.load_state_dict({key: theirs[source(key)] for key in model.state_dict()})
    return model
