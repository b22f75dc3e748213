"""Models as the PyTorch program (junyanz/pytorch-CycleGAN-and-pix2pix) saves them, and what they make of some pictures.

    python tests/torch_models.py FOLDER DEPTH NORM FILTERS STEPS

Written fresh from the published architecture. Makes FOLDER/latest_net_G.pth, latest_net_D.pth and pictures.npz (inputs,
outputs and D's logits, [N, C, H, W], one picture at a time, with the statistics of the picture and without dropout).
"""

import functools
import os
import sys

import numpy as np
import torch
from torch import nn

NORMS = {"batch": nn.BatchNorm2d, "instance": functools.partial(nn.InstanceNorm2d, affine=False), "none": nn.Identity}


class Level(nn.Module):
    """A level of the U-Net: halves the picture, goes through the level inside, doubles it, and joins its own input."""

    def __init__(self, outer, inner, norm, inside=None, inputs=None, dropout=False):
        super().__init__()
        self.outermost, biased = inputs is not None, norm == "instance"
        down = [nn.Conv2d(inputs or outer, inner, 4, 2, 1, bias=biased)]
        up = [nn.ReLU(True), nn.ConvTranspose2d(2 * inner if inside else inner, outer, 4, 2, 1,
                                                bias=self.outermost or biased)]
        if self.outermost:
            up += [nn.Tanh()]
        else:
            down = [nn.LeakyReLU(0.2, True), *down, *[NORMS[norm](inner)] * bool(inside)]
            up += [NORMS[norm](outer), *[nn.Dropout(0.5)] * dropout]
        self.model = nn.Sequential(*down, *[inside] * bool(inside), *up)

    def forward(self, x):
        return self.model(x) if self.outermost else torch.cat([x, self.model(x)], 1)


class UNet(nn.Module):
    def __init__(self, depth, norm, filters, inputs=3, outputs=3):
        super().__init__()
        level = Level(8 * filters, 8 * filters, norm)
        for _ in range(depth - 5):
            level = Level(8 * filters, 8 * filters, norm, level, dropout=True)
        for outer in (4, 2, 1):
            level = Level(outer * filters, 2 * outer * filters, norm, level)
        self.model = Level(outputs, filters, norm, level, inputs)

    def forward(self, x):
        return self.model(x)


class PatchGAN(nn.Module):
    def __init__(self, norm, filters, layers=3, channels=6):
        super().__init__()
        parts = [nn.Conv2d(channels, filters, 4, 2, 1), nn.LeakyReLU(0.2, True)]
        for number in range(1, layers + 1):
            before, after = (filters * min(2 ** power, 8) for power in (number - 1, number))
            parts += [nn.Conv2d(before, after, 4, 2 if number < layers else 1, 1, bias=norm == "instance"),
                      NORMS[norm](after), nn.LeakyReLU(0.2, True)]
        self.model = nn.Sequential(*parts, nn.Conv2d(after, 1, 4, 1, 1))

    def forward(self, x):
        return self.model(x)


def initialise(module):
    """That program's initial values; the biases, which it sets to 0, are drawn too, so that a lost one is noticed."""
    if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d)):
        nn.init.normal_(module.weight, 1 if isinstance(module, nn.BatchNorm2d) else 0, 0.02)
        if module.bias is not None:
            nn.init.normal_(module.bias, 0, 0.02)


def train(g, d, size, steps):
    """A few steps as that program makes them, on random pictures."""
    adams = [torch.optim.Adam(network.parameters(), 2e-4, betas=(0.5, 0.999)) for network in (g, d)]
    judge = nn.BCEWithLogitsLoss()
    for _ in range(steps):
        inputs, targets = torch.rand(2, 1, 3, size, size) * 2 - 1
        outputs = g(inputs)
        fake, real = d(torch.cat([inputs, outputs.detach()], 1)), d(torch.cat([inputs, targets], 1))
        loss = 0.5 * (judge(fake, torch.zeros_like(fake)) + judge(real, torch.ones_like(real)))
        adams[1].zero_grad()
        loss.backward()
        adams[1].step()
        fake = d(torch.cat([inputs, outputs], 1))
        loss = judge(fake, torch.ones_like(fake)) + 100 * nn.functional.l1_loss(outputs, targets)
        adams[0].zero_grad()
        loss.backward()
        adams[0].step()


def save(folder, depth, norm, filters, steps):
    torch.manual_seed(0)
    size = 2 ** depth
    g, d = UNet(depth, norm, filters).apply(initialise), PatchGAN(norm, filters).apply(initialise)
    train(g, d, size, steps)
    for module in g.modules():
        if isinstance(module, nn.Dropout):
            module.eval()  # the norms stay as its test script leaves them, in training mode
    inputs = torch.rand(2, 3, size, size) * 2 - 1
    for name, network in (("G", g), ("D", d)):
        torch.save(network.state_dict(), os.path.join(folder, "latest_net_%s.pth" % name))
    with torch.no_grad():
        outputs = torch.cat([g(picture[None]) for picture in inputs])
        logits = torch.cat([d(torch.cat(pair, 1)) for pair in zip(inputs[:, None], outputs[:, None])])
    np.savez(os.path.join(folder, "pictures.npz"), inputs=inputs.numpy(), outputs=outputs.numpy(),
             logits=logits.numpy())


if __name__ == "__main__":
    save(sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
