"""A peer of the throughput and quality studies: pix2pix as PyTorch programs usually have it, written fresh.

The U-Net of 256 pixels and the 70x70 PatchGAN of the CycleGAN-and-pix2pix collection with batch norm, binary cross
entropy on logits, one Adam each, and a DataLoader with Pillow.
"""

import contextlib
import functools
import os

import numpy as np
import torch
from PIL import Image
from torch import nn

SIZE = 256
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


class Level(nn.Module):
    """A level of the U-Net: halves the image, goes through the levels inside, doubles it, and joins its input."""

    def __init__(self, outer, inner, inside=None, channels=None, dropout=False):
        super().__init__()
        outermost, innermost = channels is not None, inside is None
        down = [nn.Conv2d(channels or outer, inner, 4, 2, 1, bias=False)]
        up = [nn.ReLU(True), nn.ConvTranspose2d(inner if innermost else 2 * inner, outer, 4, 2, 1, bias=outermost)]
        if not outermost:
            down.insert(0, nn.LeakyReLU(0.2, True))
            up.append(nn.BatchNorm2d(outer))
            if not innermost:
                down.append(nn.BatchNorm2d(inner))
        else:
            up.append(nn.Tanh())
        self.outermost = outermost
        self.layers = nn.Sequential(*down, *[inside] * (not innermost), *up, *[nn.Dropout(0.5)] * dropout)

    def forward(self, x):
        return self.layers(x) if self.outermost else torch.cat([x, self.layers(x)], 1)


def generator():
    """The U-Net: [N, 3, 256, 256] -> the same in [-1, 1]."""
    x = Level(512, 512)
    for _ in range(3):
        x = Level(512, 512, x, dropout=True)
    for outer in (256, 128, 64):
        x = Level(outer, 2 * outer, x)
    return Level(3, 64, x, channels=3)


def discriminator():
    """The 70x70 PatchGAN: [N, 6, 256, 256] -> [N, 1, 30, 30] logits."""
    parts = [nn.Conv2d(6, 64, 4, 2, 1), nn.LeakyReLU(0.2, True)]
    for before, after, stride in ((64, 128, 2), (128, 256, 2), (256, 512, 1)):
        parts += [nn.Conv2d(before, after, 4, stride, 1, bias=False), nn.BatchNorm2d(after), nn.LeakyReLU(0.2, True)]
    return nn.Sequential(*parts, nn.Conv2d(512, 1, 4, 1, 1))


class Pairs(torch.utils.data.Dataset):
    """Side-by-side files, jittered, as float32 (input, target) in [-1, 1]."""

    def __init__(self, folder, direction, resize):
        self.order, self.method = (1 if direction == "AtoB" else -1), getattr(Image, resize.upper())
        self.paths = sorted(os.path.join(folder, name) for name in os.listdir(folder))

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        pair = Image.open(self.paths[index]).convert("RGB")
        width, height = pair.size
        top, left = np.random.randint(0, 31, 2)
        flip = np.random.rand() > 0.5
        halves = []
        for x in (0, width // 2)[::self.order]:
            half = pair.crop((x, 0, x + width // 2, height)).resize((286, 286), self.method)
            half = half.crop((left, top, left + SIZE, top + SIZE))
            half = half.transpose(Image.FLIP_LEFT_RIGHT) if flip else half
            halves.append(torch.from_numpy(np.array(half)).permute(2, 0, 1).float() / 127.5 - 1)
        return tuple(halves)


def seed(number):
    """Seeds everything random that follows; a DataLoader's workers take their seeds from it."""
    torch.manual_seed(number)


def pairs(folder, batch, direction="AtoB", resize="bicubic"):
    """A DataLoader over a folder, epoch after epoch."""
    loader = torch.utils.data.DataLoader(Pairs(folder, direction, resize), batch, shuffle=True, num_workers=2,
                                         drop_last=True, persistent_workers=True)
    while True:
        yield from loader


def initialise(module):
    """Kernels from N(0, 0.02), batch norm's gammas from N(1, 0.02), biases 0: the collection's default."""
    if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d)):
        nn.init.normal_(module.weight, 1 if isinstance(module, nn.BatchNorm2d) else 0, 0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def adversarial(logits, is_real):
    """The binary cross entropy of a discriminator's logits, in float32."""
    return nn.functional.binary_cross_entropy_with_logits(
        logits.float(), torch.full_like(logits, float(is_real), dtype=torch.float32))


def trainer(precision, channels_last, compiled=False, capturable=False):
    """Returns (step, generate, {network: parameters}) of networks in a precision, through torch.compile if wanted.

    step: (inputs, targets) -> losses, makes a training step; a CUDA graph can capture it if it is `capturable`.
    generate: [N, 256, 256, 3] float32 in numpy -> the same, with the statistics of the batch and dropout, as the
    collection's test script leaves them by default.
    """
    networks = {"generator": generator(), "discriminator": discriminator()}
    order = torch.channels_last if channels_last else torch.contiguous_format
    for network in networks.values():
        network.apply(initialise).to(DEVICE, memory_format=order)
    g, d = networks.values()
    g_adam, d_adam = (torch.optim.Adam(network.parameters(), 2e-4, betas=(0.5, 0.999), fused=DEVICE == "cuda",
                                       capturable=capturable) for network in (g, d))
    l1, lower = nn.L1Loss(), autocast(precision)
    parameters = {name: sum(p.numel() for p in network.parameters()) for name, network in networks.items()}
    if compiled:
        g, d = torch.compile(g), torch.compile(d)

    def step(inputs, targets):
        inputs, targets = (x.to(DEVICE, memory_format=order) for x in (inputs, targets))
        with lower():
            outputs = g(inputs)
        d.requires_grad_(True)
        d_adam.zero_grad(set_to_none=not capturable)
        with lower():
            fake = d(torch.cat([inputs, outputs.detach()], 1))
            real = d(torch.cat([inputs, targets], 1))
        d_loss = 0.5 * (adversarial(fake, False) + adversarial(real, True))
        d_loss.backward()
        d_adam.step()
        d.requires_grad_(False)
        g_adam.zero_grad(set_to_none=not capturable)
        with lower():
            fake = d(torch.cat([inputs, outputs], 1))
        g_losses = adversarial(fake, True), l1(outputs.float(), targets)
        (g_losses[0] + 100 * g_losses[1]).backward()
        g_adam.step()
        return [loss.detach() for loss in (d_loss, *g_losses)]

    return step, functools.partial(translate, g, order, lower), parameters


def translate(network, order, lower, images):
    """Images [N, 256, 256, 3] float32 in numpy -> the generator's outputs, the same."""
    images = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(memory_format=order)
    weights = next(network.parameters())
    with torch.inference_mode(), lower():
        return network(images.to(weights.device, weights.dtype)).float().permute(0, 2, 3, 1).cpu().numpy()


def fixed_step(batch, precision, graph=False, compiled=False):
    """Returns a function that makes a step on random images that are on the device; `graph`: as one CUDA graph."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
    torch.backends.cudnn.benchmark = True
    step, _, _ = trainer(precision, channels_last=precision == "bfloat16", compiled=compiled, capturable=graph)
    images = [2 * torch.rand(batch, 3, SIZE, SIZE, device=DEVICE) - 1 for _ in range(2)]
    if not graph:
        return lambda: [float(loss) for loss in step(*images)]
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(5):  # a capture needs all memory to be there
            step(*images)
    torch.cuda.current_stream().wait_stream(stream)
    captured = torch.cuda.CUDAGraph()
    with torch.cuda.graph(captured):
        losses = step(*images)

    def replay():
        captured.replay()
        return [float(loss) for loss in losses]

    return replay


def peak_bytes():
    """Returns the peak of PyTorch's memory on the GPU; 0 without a GPU."""
    return torch.cuda.max_memory_allocated() if DEVICE == "cuda" else 0


def translator(precision, channels_last, compiled=False):
    """Returns generate, as `trainer`'s, of an untrained generator with its weights in a precision."""
    order = torch.channels_last if channels_last else torch.contiguous_format
    network = generator().apply(initialise).to(DEVICE, memory_format=order, dtype=getattr(torch, precision))
    # Weights in bfloat16 were a bit faster than autocast, which converts them in every call.
    return functools.partial(translate, torch.compile(network) if compiled else network, order, contextlib.nullcontext)


def autocast(precision):
    """Returns a function that opens the context of a forward pass."""
    if precision == "bfloat16":
        return lambda: torch.autocast(DEVICE, torch.bfloat16)
    return contextlib.nullcontext
