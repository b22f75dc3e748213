"""The sample set: label maps of building fronts and a "photo" of each, which the program draws itself."""

import os

import imageio.v3 as imageio
import numpy as np
import scipy.ndimage

from support import storage
from support.errors import RunError

FOLDER = "data/sample"
COUNTS = {"train": 64, "val": 16}
LABELS = {"sky": (120, 190, 250), "roof": (130, 60, 160), "wall": (20, 50, 190),
          "cornice": (0, 220, 220), "window": (250, 210, 40), "balcony": (90, 210, 80),
          "door": (230, 60, 50)}
MATERIALS = {3: (168, 84, 66), 4: (226, 190, 128), 5: (196, 200, 196)}  # by number of floors: brick, plaster, stone


def draw(folder):
    """Draws the sample set, the same 512x256 PNG files every time, into folder/train and folder/val.

    The folder gets its name only when it is complete. If another process was first, its folder is kept.

    Raises:
      RunError: the folder can't be written.
    """
    parent, name = os.path.split(os.path.abspath(folder))
    try:
        os.makedirs(parent, exist_ok=True)
        with storage.folder_beside(folder) as beside:
            draw_splits(os.path.join(beside, name))
            move(os.path.join(beside, name), folder)
    except OSError as error:
        raise RunError("%s: can't draw the sample set there (%s)" % (folder, error.strerror))


def draw_splits(folder):
    rng = np.random.RandomState(2017)
    for split, count in sorted(COUNTS.items()):
        os.makedirs(os.path.join(folder, split))
        for number in range(1, count + 1):
            classes, floors = draw_labels(rng)
            labels = np.array(list(LABELS.values()), np.uint8)[classes]
            pair = np.concatenate([labels, draw_photo(classes, floors, rng)], axis=1)
            imageio.imwrite(os.path.join(folder, split, "%d.png" % number), pair)


def move(unfinished, folder):
    """Gives a complete folder its final name, unless a folder of that name exists."""
    storage.sync_folder(unfinished)
    try:
        os.rename(unfinished, folder)
    except OSError:
        if not os.path.isdir(folder):
            raise


def draw_labels(rng, size=256):
    """Returns a random front as ([size, size] uint8 indices into LABELS, number of floors)."""
    index = {name: i for i, name in enumerate(LABELS)}
    classes = np.full((size, size), index["sky"], np.uint8)

    def fill(name, top, left, height, width):
        classes[max(int(top), 0):int(top + height), max(int(left), 0):int(left + width)] = index[name]

    floors, bays = rng.randint(3, 6), rng.randint(3, 7)
    left, eaves, ground = rng.randint(6, 20), rng.randint(38, 60), size - rng.randint(6, 12)
    width, storey = size - 2 * left, (ground - eaves) / floors
    roof = rng.randint(16, 28)
    for row in range(roof):  # a hipped roof: wider towards the eaves
        fill("roof", eaves - roof + row, left + roof - row, 1, width - 2 * (roof - row))
    fill("wall", eaves, left, size - eaves, width)
    fill("cornice", eaves - 4, left - 5, 8, width + 10)

    pane = 0.34 + 0.2 * rng.rand()  # width of a window as a share of its bay
    tall = 0.5 + 0.14 * rng.rand()  # its height as a share of the storey
    door_bay, balcony_floor = rng.randint(bays), rng.randint(1, floors - 1)
    belt = rng.randint(1, 4)  # a belt of cornice at the foot of each belt-th floor
    for floor in range(floors):
        top = eaves + floor * storey
        if floor and (floors - floor) % belt == 0:
            fill("cornice", top - 2, left, 4, width)
        for bay in range(bays):
            bay_width = width / bays
            centre = left + (bay + 0.5) * bay_width
            window = pane * bay_width
            if floor == floors - 1 and bay == door_bay:
                door = max(window, 18)
                fill("cornice", top + 0.12 * storey, centre - door / 2 - 4, 5, door + 8)
                fill("door", top + 0.22 * storey, centre - door / 2, size, door)
                continue
            fill("window", top + 0.24 * storey, centre - window / 2, tall * storey, window)
            if floor == balcony_floor and bay % 2 == door_bay % 2:
                fill("balcony", top + 0.58 * storey, centre - window / 2 - 5, 0.26 * storey, window + 10)
            else:
                fill("cornice", top + (0.24 + tall) * storey, centre - window / 2 - 3, 3, window + 6)
    return classes, floors


def draw_photo(classes, floors, rng):
    """Returns [H, W, 3] uint8: the front in its materials, lit from the upper left."""
    height, width = classes.shape
    y, x = np.mgrid[:height, :width].astype(np.float64)
    mask = {name: classes == i for i, name in enumerate(LABELS)}
    smooth = [scipy.ndimage.gaussian_filter(rng.randn(height, width), s) * s for s in (1, 3, 12, 30)]
    haze = (y / height)[..., None]
    photo = (1 - haze) * (96, 150, 214) + haze * (226, 232, 236)
    photo += (np.clip(smooth[2] + smooth[3], 0, None) * 90)[..., None]  # clouds

    def paint(name, color, shade=1.0):
        shaded = np.asarray(color, np.float64) * np.broadcast_to(shade, (height, width))[..., None]
        photo[mask[name]] = shaded[mask[name]]

    paint("roof", (92, 74, 74), 0.82 + 0.25 * (y % 6 / 6) + 0.08 * ((x + 5 * (y // 6)) % 10 < 1))
    paint("wall", MATERIALS[floors], wall_shade(floors, y, x, smooth))
    paint("cornice", (232, 222, 204), 1 + 0.05 * smooth[0])
    draw_windows(photo, mask["window"], rng)
    panels = ((x % 9 < 1) | (y % 17 < 2)).astype(np.float64)
    paint("door", (104, 62, 36), 1 - 0.35 * panels + 0.1 * smooth[1])
    photo[edge(mask["door"], 2, 2, 0, 2)] = (62, 38, 24)
    railing = (x % 4 < 1.5) | edge(mask["balcony"], 2, 1, 0, 1)
    paint("balcony", (52, 54, 60), np.where(railing, 0.55, 1.9 + 0.2 * smooth[1]))
    photo[edge(mask["balcony"], 0, 0, 3, 0)] = (188, 180, 168)
    photo *= shadows(mask)
    photo[edge(mask["cornice"], 1, 0, 0, 0)] *= 1.12
    photo[edge(mask["cornice"], 0, 0, 1, 1)] *= 0.7

    light = 1.08 - 0.2 * x / width - 0.06 * y / height
    photo *= np.where(mask["sky"], 1, light)[..., None] * (0.96 + 0.08 * rng.rand())
    photo = scipy.ndimage.gaussian_filter(photo, (0.55, 0.55, 0)) + 2.5 * rng.randn(height, width, 3)
    return np.clip(photo, 0, 255).astype(np.uint8)


def wall_shade(floors, y, x, smooth):
    """Returns the brightness of the wall's material at each pixel: bricks, plaster or stone."""
    wall = 1 + 0.05 * smooth[0] + 0.06 * smooth[1] + 0.16 * smooth[2]
    if floors == 3:  # bricks, every other course shifted by half a brick
        mortar = (y % 6 < 1) | ((x + 7 * (y // 6 % 2)) % 14 < 1)
        brick = np.sin(91.7 * (y // 6) + 37.3 * ((x + 7 * (y // 6 % 2)) // 14))
        return np.where(mortar, 1.25, wall + 0.1 * brick)
    if floors == 5:  # ashlar: large blocks with dark joints
        return np.where((y % 16 < 1) | ((x + 16 * (y // 16 % 2)) % 32 < 1), 0.78, wall)
    return wall


def edge(inside, top, left, bottom, right):
    """Returns the pixels of a mask that are at most this many pixels from its border on each side."""
    near = np.zeros_like(inside)
    for axis, pixels in ((0, top), (1, left), (0, -bottom), (1, -right)):
        for distance in range(1, abs(pixels) + 1):
            near |= ~np.roll(inside, int(np.sign(pixels)) * distance, axis)
    return inside & near


def draw_windows(photo, mask, rng):
    """Draws windows into the photo: glass that mirrors the sky above a dark room, white frames and glazing bars."""
    regions, _ = scipy.ndimage.label(mask)
    for number, box in enumerate(scipy.ndimage.find_objects(regions), 1):
        inside = regions[box] == number
        v, u = np.mgrid[:inside.shape[0], :inside.shape[1]] / np.array(inside.shape).reshape(2, 1, 1)
        glare = np.clip(1.1 - np.abs(u + 0.7 * v - 0.6 - 0.3 * rng.rand()) * 5, 0, 1) * 0.5
        glass = (36, 48, 62) + ((0.75 * (1 - v) + glare)[..., None] * (96, 116, 134))
        if rng.rand() < 0.35:  # curtains
            drawn = (u < 0.3) | (u > 0.7)
            glass = np.where(drawn[..., None], (206, 196, 178) * (0.8 + 0.2 * np.sin(40 * u))[..., None], glass)
        bars = (np.abs(u - 0.5) * inside.shape[1] < 1) | (np.abs(v - 0.35) * inside.shape[0] < 1)
        glass[bars] = (236, 232, 224)
        photo[box][inside] = glass[inside]
    photo[edge(mask, 2, 2, 2, 2)] = (240, 236, 228)
    photo[edge(mask, 3, 3, 0, 0) & ~edge(mask, 2, 2, 0, 0)] *= 0.55  # the recess shades the glass


def shadows(mask):
    """Returns [H, W, 1], below 1 in the shadows that cornices and balconies cast to the lower right."""
    raised = mask["cornice"] | mask["balcony"]
    shadow = np.zeros(raised.shape)
    for distance in range(1, 6):
        shadow = np.maximum(shadow, np.roll(raised, (distance, distance // 2), (0, 1)) * (1 - distance / 8))
    lower = mask["wall"] | mask["window"] | mask["door"]
    return (1 - 0.5 * scipy.ndimage.gaussian_filter(shadow, 0.7) * lower)[..., None]
