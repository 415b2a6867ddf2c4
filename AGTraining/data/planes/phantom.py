"""Synthetic ultrasound frames with planes that can be told apart, for tests and for trying a training out.

A map of how much each point echoes (tissue, a structure, its shadow) is multiplied with speckle, log-compressed and
shown within a sector. It is drawn after what the planes' definitions name: a skull with its midline, an abdomen with
stomach and vein, a femur with its shadow. Nothing in it was taken from a patient, and nothing trained on it is fit for
one.
"""

from __future__ import annotations

import csv
import math
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

from AGTraining.data.planes.settings import PhantomFrameSettings
from AGTraining.imaging.box import Box

BACKGROUND = "Other"
TABLE = "labels.csv"
HEAD = ("file", "patient", "plane", "official_split", "x0", "y0", "x1", "y1")
SIZES = ((240, 320), (260, 340), (288, 352))
# Every fourth patient is of the data set's own test part.
TEST_EVERY = 4
DYNAMIC_RANGE = 3.2


@dataclass(frozen=True)
class _Patient:
    """What all frames of a patient share: the machine's picture and the mother's tissue."""

    size: tuple[int, int]
    opening: float
    probe: float
    gain: float
    grain: float
    attenuation: float
    mirrored: bool


@dataclass
class _Scene:
    """How much each point echoes, (rows, columns); x, y: in halves of the rows, from the frame's middle."""

    echo: np.ndarray
    x: np.ndarray
    y: np.ndarray
    random: np.random.Generator


def phantom_frame(plane: str, patient: int, frame: int) -> tuple[np.ndarray, Box | None]:
    """A frame (rows, columns) uint8 and the box of its structure in pixels; None for the background.

    The same numbers give the same frame on every machine. Raises KeyError for a plane that is none of `PLANES`.
    """
    person = _patient(np.random.default_rng((patient, 0)))
    random = np.random.default_rng((patient, 1 + list(PLANES).index(plane), frame))
    rows, columns = person.size
    y, x = np.mgrid[:rows, :columns].astype(np.float64)
    scene = _Scene(np.full(person.size, 0.35), (x + 0.5 - columns / 2) / (rows / 2), (y + 0.5) / (rows / 2) - 1, random)
    _tissue(scene)
    found = PLANES[plane](scene)
    image = _scanned(scene, person)
    if person.mirrored:
        image = image[:, ::-1]
    box = None
    if found is not None:
        left, top, right, bottom = (
            (value + offset) * rows / 2 for value, offset in zip(found, _offsets(person), strict=True)
        )
        whole = Box(left, top, right, bottom).clipped(rows, columns)
        if whole is not None and person.mirrored:
            whole = Box(columns - whole.x1, whole.y0, columns - whole.x0, whole.y1)
        box = whole
    _write_marks(image := np.ascontiguousarray(image), person)
    return image, box


def phantom_frames(settings: PhantomFrameSettings, folder: Path) -> Path:
    """The table of some phantoms below the folder; they are made where they are not there as a whole."""
    stop = settings.first + settings.patients
    target = folder / f"planes-{settings.first}-{stop - 1}-{settings.frames}"
    if not (target / TABLE).exists():
        temporary = folder / f".{target.name}.{os.getpid()}.part"
        try:
            make_phantom_frames(temporary, range(settings.first, stop), settings.frames)
            os.replace(temporary, target)
        except OSError:
            # Another run has made it meanwhile.
            if not (target / TABLE).exists():
                raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return target / TABLE


def make_phantom_frames(folder: Path, patients: range, frames: int = 2) -> Path:
    """Writes `frames` frames of each plane of each patient as PNG, and their table, whose path it returns."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / TABLE).open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(HEAD)
        for patient in patients:
            part = "test" if patient % TEST_EVERY == TEST_EVERY - 1 else "train"
            for plane in PLANES:
                for number in range(frames):
                    image, box = phantom_frame(plane, patient, number)
                    name = f"Patient{patient:05d}_{plane.replace(' ', '')}_{number}.png"
                    Image.fromarray(image).save(folder / name)
                    edges = ("",) * 4 if box is None else tuple(f"{value:.1f}" for value in box.edges)
                    table.writerow((name, patient, plane, part, *edges))
    return folder / TABLE


def _patient(random: np.random.Generator) -> _Patient:
    return _Patient(
        size=SIZES[random.integers(len(SIZES))],
        opening=math.radians(random.uniform(32, 42)),
        probe=random.uniform(0.35, 0.7),
        gain=random.uniform(0.85, 1.15),
        grain=random.uniform(0.8, 1.4),
        attenuation=random.uniform(0.1, 0.5),
        mirrored=bool(random.random() < 0.5),
    )


def _tissue(scene: _Scene) -> None:
    """Layers near the probe, and tissue that echoes unevenly."""
    random = scene.random
    coarse = random.normal(size=(8, 10))
    zoom = [n / m for n, m in zip(scene.echo.shape, coarse.shape, strict=True)]
    scene.echo *= np.exp(0.35 * ndimage.zoom(coarse, zoom, order=1)[: scene.echo.shape[0], : scene.echo.shape[1]])
    wave = 0.05 * np.sin(random.uniform(1, 3) * scene.x + random.uniform(0, 6))
    for _ in range(3):
        depth = random.uniform(-0.95, -0.6)
        scene.echo += random.uniform(0.3, 1.2) * np.exp(-(((scene.y - depth - wave) / 0.02) ** 2))


def _turned(scene: _Scene, cx: float, cy: float, angle: float) -> tuple[np.ndarray, np.ndarray]:
    dx, dy = scene.x - cx, scene.y - cy
    return math.cos(angle) * dx + math.sin(angle) * dy, math.cos(angle) * dy - math.sin(angle) * dx


def _place(scene: _Scene) -> tuple[float, float, float]:
    random = scene.random
    return random.uniform(-0.3, 0.3), random.uniform(-0.1, 0.3), random.uniform(-0.6, 0.6)


def _brain(scene: _Scene) -> tuple[float, float, float, float]:
    """A bright oval skull, open where the beam grazes it, with a midline and dark ventricles."""
    random = scene.random
    cx, cy, angle = _place(scene)
    a, b = random.uniform(0.45, 0.62), random.uniform(0.34, 0.44)
    u, v = _turned(scene, cx, cy, angle)
    radius = np.hypot(u / a, v / b)
    inside = radius < 1
    scene.echo[inside] *= 0.45
    grazing = 0.35 + 0.65 * np.abs(v / b) / np.maximum(radius, 1e-6)
    scene.echo += 3.0 * grazing * np.exp(-(((radius - 1) * b / 0.03) ** 2))
    scene.echo += 1.2 * np.exp(-((v / 0.012) ** 2)) * (np.abs(u) < 0.75 * a)
    for side in (-1, 1):
        ventricle = np.hypot((u + 0.35 * a) / (0.28 * a), (v - side * 0.35 * b) / (0.14 * b)) < 1
        scene.echo[ventricle] *= 0.2
    return _extent(cx, cy, a, b, angle)


def _abdomen(scene: _Scene) -> tuple[float, float, float, float]:
    """A round body of even echoes with a dark stomach, a bent vein, and a spine that throws a shadow."""
    random = scene.random
    cx, cy, angle = _place(scene)
    a = random.uniform(0.42, 0.58)
    b = a * random.uniform(0.88, 1.0)
    u, v = _turned(scene, cx, cy, angle)
    radius = np.hypot(u / a, v / b)
    scene.echo[radius < 1] = 0.5
    scene.echo += 0.8 * np.exp(-(((radius - 1) * b / 0.045) ** 2))
    stomach = np.hypot((u + 0.4 * a) / (0.24 * a), (v - 0.05 * b) / (0.17 * b)) < 1
    vein = (np.abs(np.hypot(u - 0.15 * a, v + 0.3 * b) - 0.35 * a) < 0.05) & (v > -0.3 * b) & (u > -0.1 * a)
    scene.echo[stomach | vein] *= 0.06
    su, sv = u - 0.72 * a, v - 0.1 * b
    scene.echo += 3.0 * np.exp(-((np.hypot(su, sv) / 0.07) ** 2))
    spine = cx + math.cos(angle) * 0.72 * a - math.sin(angle) * 0.1 * b, cy + math.sin(angle) * 0.72 * a
    _shadow(scene, spine[0], spine[1], 0.08)
    return _extent(cx, cy, a, b, angle)


def _femur(scene: _Scene) -> tuple[float, float, float, float]:
    """A bright, slightly bent rod with the dark below it."""
    random = scene.random
    cx, cy, angle = _place(scene)
    angle *= 0.6
    half = random.uniform(0.3, 0.5)
    u, v = _turned(scene, cx, cy, angle)
    bent = v + random.uniform(0.1, 0.3) * (u**2 - half**2 / 3)
    rod = np.exp(-((bent / 0.035) ** 2)) / (1 + np.exp((np.abs(u) - half) / 0.01))
    below = (np.abs(u) < half) & (bent > 0.04)
    scene.echo[below] *= np.exp(-2.5 * np.minimum(1, 8 * bent[below]))
    scene.echo += 4.0 * rod
    return _extent(cx, cy, half, 0.08, angle)


def _other(scene: _Scene) -> None:
    """Fluid, membranes and bits of bone, but no plane."""
    random = scene.random
    for _ in range(random.integers(1, 4)):
        cx, cy, angle = random.uniform(-0.8, 0.8), random.uniform(-0.5, 0.8), random.uniform(-1.5, 1.5)
        a, b = random.uniform(0.15, 0.5), random.uniform(0.08, 0.25)
        u, v = _turned(scene, cx, cy, angle)
        scene.echo[np.hypot(u / a, v / b) < 1] *= random.choice([0.05, 0.4, 2.0])
    for _ in range(random.integers(0, 3)):
        cx, cy, angle = random.uniform(-0.8, 0.8), random.uniform(-0.5, 0.8), random.uniform(-1.5, 1.5)
        u, v = _turned(scene, cx, cy, angle)
        scene.echo += random.uniform(0.5, 2) * np.exp(-((v / 0.03) ** 2) - (u / random.uniform(0.05, 0.15)) ** 2)


PLANES: dict[str, Callable[[_Scene], tuple[float, float, float, float] | None]] = {
    "Fetal brain": _brain,
    "Fetal abdomen": _abdomen,
    "Fetal femur": _femur,
    BACKGROUND: _other,
}


def _shadow(scene: _Scene, x: float, y: float, width: float) -> None:
    below = scene.y > y + width
    scene.echo *= np.where(below, 1 - 0.85 * np.exp(-(((scene.x - x) / width) ** 4)), 1)


def _extent(cx: float, cy: float, a: float, b: float, angle: float) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of a turned ellipse."""
    width = math.hypot(a * math.cos(angle), b * math.sin(angle))
    height = math.hypot(a * math.sin(angle), b * math.cos(angle))
    return cx - width, cy - height, cx + width, cy + height


def _offsets(person: _Patient) -> tuple[float, float, float, float]:
    """From the scene's coordinates to pixels over half of the rows."""
    across = person.size[1] / person.size[0]
    return across, 1.0, across, 1.0


def _scanned(scene: _Scene, person: _Patient) -> np.ndarray:
    """Echoes with speckle, log-compressed, within the sector: (rows, columns) uint8."""
    noise = scene.random.normal(size=(2, *scene.echo.shape))
    fields = ndimage.gaussian_filter(noise, (0, 0.7 * person.grain, 1.2 * person.grain))
    speckle = np.hypot(fields[0], fields[1]) / fields.std()
    depth = np.clip((scene.y + 1) / 2, 0, 1)
    signal = ndimage.gaussian_filter(scene.echo, 0.8) * speckle * np.exp(-person.attenuation * depth)
    shown = 1 + np.log(np.maximum(signal * person.gain, 1e-4) / 4) / DYNAMIC_RANGE
    # The probe's surface is an arc around a point above the frame.
    centre = -1 - person.probe
    distance = np.hypot(scene.x, scene.y - centre)
    angle = np.arctan2(scene.x, scene.y - centre)
    sector = (distance > person.probe) & (distance < person.probe + 1.95) & (np.abs(angle) < person.opening + 0.2)
    return np.where(sector, np.clip(shown, 0.02, 1) * 255, 0).astype(np.uint8)


def _write_marks(image: np.ndarray, person: _Patient) -> None:
    """A gray scale and depth marks beside the sector, as machines draw them."""
    rows, columns = person.size
    image[rows // 8 : rows // 2, 6:12] = np.linspace(255, 10, rows // 2 - rows // 8).astype(np.uint8)[:, None]
    image[:: rows // 10, columns - 8 : columns - 4] = 180
