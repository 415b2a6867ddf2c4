"""The phantom's patient: a template abdomen whose sizes, positions, contents and tissues are drawn from a seed.

Template coordinates are mm, LPS, with 0 on the body's axis at the height of the kidneys (second lumbar vertebra).
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from AGTraining.data.phantom_shapes import Array, SmoothField, Tube, rotation

Phase = Literal["none", "arterial", "portal venous"]
Kidneys = Literal["both", "left", "right"]
PHASES: tuple[Phase, ...] = ("none", "arterial", "portal venous")

LABELS = {
    "pancreas": 1,
    "spleen": 2,
    "kidney_right": 3,
    "kidney_left": 4,
    "gallbladder": 5,
    "esophagus": 6,
    "liver": 7,
    "stomach": 8,
    "duodenum": 9,
    "aorta": 10,
    "inferior_vena_cava": 11,
    "colon": 12,
    "small_bowel": 13,
    "adrenal_right": 14,
    "adrenal_left": 15,
}

# HU without contrast, arterial, portal venous.
_TISSUE: dict[str, tuple[float, float, float]] = {
    "aorta": (40, 300, 155),
    "cava": (38, 110, 150),
    "portal": (40, 130, 172),
    "liver": (58, 74, 112),
    "spleen": (46, 128, 118),
    "pancreas": (38, 102, 92),
    "cortex": (33, 195, 195),
    "medulla": (31, 90, 168),
    "muscle": (50, 56, 62),
    "bowel": (38, 80, 85),
    "adrenal": (22, 65, 70),
}


@dataclass(frozen=True)
class Ball:
    """A cyst or lesion: center and radius in mm, HU inside."""

    center: Array
    radius: float
    hu: float


@dataclass(frozen=True)
class Kidney:
    """center; radii along its own axes (outwards, front–back, length); frame: these axes as columns; side: +1 left."""

    center: Array
    radii: Array
    frame: Array
    side: int
    sinus: float
    cysts: tuple[Ball, ...]


@dataclass(frozen=True)
class Spleen:
    """An ellipsoid that the body wall bounds outside, and a ball at `hollow` inside."""

    center: Array
    radii: tuple[float, float, float]
    hollow: Array
    hollow_radius: float


@dataclass(frozen=True)
class Gut:
    """A hollow organ: tube, wall in mm, HU of the contents, and how far gas reaches.

    gas: level in radii from the curve's middle (−1 none, 1 full); one value, or one for each tenth of the curve or so.
    """

    tube: Tube
    wall: float
    fluid: float
    gas: Array
    stool: bool = False


class Patient:
    """One patient: everything that is drawn at random is drawn here, in an order that no grid can change."""

    def __init__(self, seed: int, phase: Phase, kidneys: Kidneys, oral_contrast: bool = False) -> None:
        self.seed, self.phase, self.kidneys = seed, phase, kidneys
        self._draw_body()
        self._draw_tissue()
        self._draw_pancreas_and_vessels()
        self._draw_gut()
        if oral_contrast:
            self._drink_contrast()
        self._draw_solid_organs()

    def rng(self, name: str) -> np.random.Generator:
        """A stream of its own for each part, so that a change in one does not alter the others."""
        return np.random.default_rng([self.seed, zlib.crc32(name.encode())])

    def field(self, name: str, knot_mm: float, extent: tuple[float, float, float]) -> SmoothField:
        """A smooth field around the middle of the patient, with a stream of its own."""
        return SmoothField(self.rng(name), knot_mm, (0, 0, 0), np.asarray(extent))

    @property
    def skin_mm(self) -> tuple[float, float, float]:
        """Half-width and half-depth of the skin's outline, and its center's distance behind 0."""
        front, back = self.girth + 14 + self.fat_front, 112 + self.fat_back
        return (self.half_width + 22 + self.fat_side, (front + back) / 2, (back - front) / 2)

    @property
    def front(self) -> float:
        """How far (mm, y) organs at the belly's front move with its girth."""
        return -(self.girth - 97) * 0.8

    def _draw_body(self) -> None:
        r = self.rng("body")
        fatness = float(np.clip(r.normal(0.0, 1.0), -1.6, 2.4))
        self.fat_side = float(np.clip(14 + 8 * fatness + r.normal(0, 2), 3, 45))
        self.fat_back = float(np.clip(15 + 8 * fatness + r.normal(0, 3), 4, 45))
        self.fat_front = float(np.clip(15 + 8 * fatness + r.normal(0, 4), 4, 50))
        self.girth = float(np.clip(95 + 9 * fatness + r.normal(0, 4), 80, 124))
        self.half_width = float(np.clip(131 + 5 * fatness + r.normal(0, 4), 120, 150))
        self.power = float(r.uniform(2.1, 2.6))
        scale = r.normal(1, (0.04, 0.03, 0.05)).clip(0.88, 1.12)
        turn = rotation(2, r.normal(0, 4)) @ rotation(0, r.normal(0, 2)) @ rotation(1, r.normal(0, 2.5))
        self.to_world = np.eye(4)
        self.to_world[:3, :3] = turn * scale
        self.to_world[:3, 3] = r.normal(0, (10, 6, 10)).clip(-20, 20)
        self.warp = [self.field(f"warp{n}", 70.0, (560, 440, 900)) for n in range(3)]
        self.spine_bend = float(r.normal(0, 3))
        self.vertebra = float(r.uniform(32, 36))
        self.vertebra_phase = float(r.uniform(0, 34))
        self.rib_phase = float(r.uniform(0, 28))
        self.marbling = float(np.clip(r.normal(0.25, 0.25), 0, 0.8))
        self.psoas = float(r.uniform(0.75, 1.2))
        self.dome = (float(r.normal(116, 7)), float(r.normal(106, 7)))
        self.furrow = float(r.uniform(2, 9))
        self.table_gap = float(r.uniform(3, 16))
        self.table_kind = int(r.integers(0, 3))

    def _draw_tissue(self) -> None:
        r = self.rng("tissue")
        column = PHASES.index(self.phase)
        self.hu = {
            name: values[column] * float(np.clip(r.normal(1, 0.09), 0.8, 1.25)) for name, values in _TISSUE.items()
        }
        if r.random() < 0.15:
            self.hu["liver"] -= float(r.uniform(15, 40))
        self.fat_hu = float(r.uniform(-112, -98))
        self.bone_hu = float(r.uniform(120, 220))
        self.fatty_pancreas = float(r.uniform(0.0, 0.6))
        self.calcified = float(r.uniform(1.2, 4.0))
        self.noise_hu = float(r.uniform(5, 20))
        self.blur_mm = float(r.uniform(0.35, 0.6))
        self.texture = self.field("texture", 9.0, (460, 360, 700))
        self.strands = self.field("strands", 6.0, (340, 260, 500))
        self.edges = self.field("edges", 22.0, (460, 360, 420))
        self.lobules = SmoothField(self.rng("lobules"), 5.5, (20, -20, 10), np.array([260.0, 200.0, 200.0]))

    def _draw_pancreas_and_vessels(self) -> None:
        r = self.rng("pancreas")

        def near(x: float, y: float, z: float, sd: float = 3.0) -> Array:
            return np.array([x, y, z]) + r.normal(0, sd, 3).clip(-2 * sd, 2 * sd)

        f = self.front * 0.2
        head, neck, body = (near(-24, -33, -8, 4), near(2, -48 + f, 12, 4), near(42, -44 + f, 22, 6))
        tail, tip = near(76, -10, 34, 5), near(96, 12, 42, 4)
        size = float(r.uniform(0.82, 1.14))
        middle, bend = (neck + body) / 2, (body + tail) / 2
        # fmt: off
        self.pancreas = Tube(
            [head + (10, 6, -20), head + (-1, 0, -8), head + (3, -6, 8), neck, middle + (0, -2, 2), body,
             bend + (5, -3, 1), tail, tip],
            size * np.array([8, 15.5, 14, 8.5, 9.5, 10.5, 10.5, 10, 7]) * r.uniform(0.88, 1.12, 9))
        self.pancreas_head = head
        self.pancreas_edge = float(r.uniform(1.0, 2.6))
        behind, confluence = np.array([2, 13, 0]) * size, neck + (-6, 13, -2)
        self.splenic_vein = Tube(
            [confluence, middle + behind, body + behind, tail + behind * (0.6, 0.9, 0), tip + (6, 6, 2)],
            [6.0, 5.2, 4.8, 4.4, 4.0])
        self.portal = Tube(
            [(1, -42, -95), (-2, -42, -40), confluence, (-22, -32, 34), (-42, -30, 56), (-70, -30, 66)],
            [3.5, 5.5, 6.8, 7.0, 7.5, 5.0])
        self.splenic_artery = Tube(
            np.array([(10, -14, 34), (22, -30, 40), (45, -36, 44), (60, -18, 38), (78, -6, 50), tip + (4, 2, 8)])
            + r.normal(0, 4, (6, 3)), [2.6] * 6)
        self.aorta = Tube(
            [(17, 10, 190), (13, 4, 90), near(11, -3, 30, 2), near(8, -4, -20, 2), (4, -6, -75), (30, 4, -130),
             (48, 10, -190)],
            np.array([12, 11.5, 10.5, 9.5, 9, 6.5, 5]) * r.uniform(0.85, 1.25))
        self.iliac = Tube([(4, -6, -72), (-28, 2, -130), (-46, 8, -190)], [7.0, 6.0, 5.0])
        self.sma = Tube([(10, -10, 16), (9, -24, 8), (8, -34, -12), (9, -40, -45), (10, -46, -100)],
                        [4, 3.6, 3.6, 3.2, 2])
        self.celiac = Tube([(11, -10, 32), (8, -26, 36), (-14, -34, 38), (-36, -36, 48)], [4, 3.6, 2.8, 2.2])
        self.cava = Tube(
            [(-2, 0, -130), near(-16, -4, -70, 2), near(-19, -7, -10, 2), (-21, -9, 35), (-26, -5, 75),
             (-16, -14, 104)],
            np.array([8, 10, 11, 11.5, 12.5, 12]) * r.uniform(0.8, 1.15))
        # fmt: on
        self.mesenteric = []
        for _ in range(90):
            start = np.array([r.uniform(-5, 12), -42 + r.normal(0, 3), r.uniform(-70, 5)])
            end = np.array([r.uniform(-95, 100), r.uniform(-78, -30) + self.front, r.uniform(-150, 20)])
            middle = (start + end) / 2 + r.normal(0, 9, 3)
            self.mesenteric.append(Tube([start, middle, end], np.array([2.4, 1.7, 0.9]) * r.uniform(0.7, 1.1)))

    def _draw_gut(self) -> None:
        r = self.rng("gut")
        f, side = self.front, self.half_width - 133
        fluids, odds = (8.0, 25.0, 45.0, 130.0), (0.4, 0.3, 0.2, 0.1)
        fill = float(r.uniform(0.55, 1.2))
        # fmt: off
        top = self.dome[1]
        stomach = np.array([(70, 14, top - 22), (72, -6, top - 30), (70, -32, 66), (58, -58 + f * 0.5, 46),
                            (30, -70 + f * 0.6, 28), (2, -68 + f * 0.4, 26), (-16, -58, 30)], float)
        stomach += r.normal(0, 5, 3) * np.linspace(1, 0, 7)[:, None]
        self.stomach = Gut(Tube(stomach, np.array([20, 32, 31, 27, 20, 15, 10]) * np.linspace(fill, 1, 7)),
                           4.0, float(r.choice(fluids, p=odds)), np.array([r.uniform(-1.2, 0.5)]))
        duodenum = np.array([(-16, -56, 30), (-38, -48, 24), (-50, -36, 8), (-52, -28, -14), (-44, -24, -36),
                             (-18, -22, -46), (12, -24, -42), (34, -34, -26), (44, -46, -30)], float)
        duodenum += r.normal(0, 2.5, 3) + (self.pancreas_head + (24, 33, 8)) * 0.6
        radii = np.array([11, 11, 10, 10.5, 10.5, 10, 9.5, 10, 10]) * r.uniform(0.8, 1.15, 9)
        self.duodenum = Gut(Tube(duodenum, radii), 2.6, 20.0, np.array([r.uniform(-2.5, 0.2)]))
        self.esophagus = Tube([(4, 2, 190), (8, -4, 130), (14, -6, 106), (34, -6, 94), (58, -2, 90)], [8, 8, 8, 9, 8.0])
        colon = np.array([
            (-66, -32, -165), (-88, -28, -125), (-100 - side, 2, -82), (-104 - side, 2, -40), (-98, -24, -14),
            (-84, -62, -10), (-50, -82 + f, -34), (-8, -88 + f, -46), (40, -84 + f, -30), (78, -70 + f, 2),
            (104, -38, 38), (112 + side, -8, 40), (116 + side, 10, 0), (114 + side, 12, -50), (100 + side, -8, -100),
            (80, -26, -150), (50, 20, -175), (20, 40, -215)])
        radii = np.array([20, 27, 27, 25, 22, 20, 19, 20, 19, 18, 19, 18, 15, 14, 13, 14, 14, 15.0])
        # fmt: on
        colon += r.normal(0, 5, colon.shape).clip(-9, 9)
        radii *= r.uniform(0.8, 1.15, 18) * r.uniform(0.85, 1.2)
        self.colon = Gut(Tube(colon, radii, 5), 2.2, float(r.uniform(-60, 40)), r.uniform(-1.7, 0.9, 19), stool=True)
        self.loops = []
        for n in range(int(r.integers(13, 20))):
            low, high = ((10, -70, -50), (88, -30, 4)) if n < 6 else ((-70, -78, -130), (90, -28, -40))
            at = r.uniform(low, high) + (0, f * 0.7, 0)
            step = r.normal(0, 1, 3)
            points = []
            for _ in range(9):
                step = 0.55 * step + r.normal(0, 1, 3) * (1, 0.7, 0.8)
                at = np.clip(at + 21 * step / np.linalg.norm(step), (-88, -82 + f, -190), (98, -16, -2))
                points.append(at)
            fluid = float(r.choice((-5.0, 15.0, 30.0, 60.0, 220.0), p=(0.2, 0.3, 0.3, 0.15, 0.05)))
            tube = Tube(points, r.uniform(9, 13.5) * r.uniform(0.85, 1.15, 9))
            self.loops.append(Gut(tube, 2.6, fluid, np.array([r.uniform(-3.0, 0.5)])))

    def _drink_contrast(self) -> None:
        """Fills the gut with oral contrast, as bright as an enhanced kidney and brighter, each part differently."""
        r = self.rng("oral contrast")

        def filled(gut: Gut, share: float) -> Gut:
            hu = float(r.uniform(110, 450))
            # Less gas than before: what was drunk needs the room.
            return replace(gut, fluid=hu, gas=gut.gas - 0.4) if r.random() < share else gut

        self.stomach = filled(self.stomach, 0.7)
        self.duodenum = filled(self.duodenum, 0.5)
        self.colon = filled(self.colon, 0.8)
        self.loops = [filled(loop, 0.7) for loop in self.loops]

    def _draw_solid_organs(self) -> None:
        r = self.rng("solid")

        def near(x: float, y: float, z: float, sd: float) -> Array:
            return (np.array([x, y, z]) + r.normal(0, sd, 3).clip(-2 * sd, 2 * sd)).astype(np.float32)

        self.liver_size = float(np.clip(r.normal(0, 1), -1.5, 1.5))
        self.left_lobe = float(r.uniform(30, 66))
        self.liver_vessels = []
        for root, lowest in (((-62, -30, 64), 0), ((-20, -10, 104), 40)):
            for _ in range(13):
                end = np.array([r.uniform(-132, 10), r.uniform(-80, 50), r.uniform(lowest, 105)])
                middle = np.asarray(root) * 0.55 + end * 0.45 + r.normal(0, 7, 3)
                self.liver_vessels.append(Tube([root, middle, end], np.array([5.0, 3.0, 1.2]) * r.uniform(0.7, 1.1)))
        self.lesions = []
        for _ in range(int(r.choice([0, 0, 1, 3]))):
            center = r.uniform((-120, -60, 20), (-30, 40, 100)).astype(np.float32)
            self.lesions.append(Ball(center, float(r.uniform(3, 16)), float(r.uniform(0, 70))))
        self.gallbladder = None
        if r.random() > 0.18:
            radii = np.array([14, 18, 26], np.float32) * np.float32(r.uniform(0.7, 1.25))
            self.gallbladder = (near(-64, -54, 4, 5), radii, float(r.uniform(-25, 25)))
        self.bile_hu = float(r.uniform(2, 18))
        wide, long, hollow = (float(r.uniform(0.98, 1.27)), float(r.uniform(0.98, 1.3)), float(r.uniform(36, 46)))
        spleen_radii = (34 * wide, 56 * wide, 52 * long)
        self.spleen = Spleen(near(95, 38, 50, 4), spleen_radii, near(48, 2, 44, 5), hollow)
        self.kidney: dict[str, Kidney] = {}
        shift = float(r.normal(0, 6))
        for name, side, height in (("kidney_right", -1, -10), ("kidney_left", 1, 2)):
            center = near(side * 69, 29, height + shift, 3)
            radii = np.array([31.5, 24, 57]) * r.normal(1, 0.04) * r.normal(1, 0.025, 3)
            # Upper poles lean to the spine and the back; the hila look forward and to the middle.
            tilt = rotation(1, -side * r.normal(14, 3)) @ rotation(0, -r.normal(12, 4))
            frame = tilt @ rotation(2, side * r.normal(32, 8))
            cysts = tuple(
                Ball(r.uniform((0, -25, -45), (30, 25, 45)).astype(np.float32), float(r.uniform(4, 17)), 6.0)
                for _ in range(int(r.choice([0, 0, 0, 1, 2])))
            )
            sinus = float(r.uniform(0.3, 1.2))
            self.kidney[name] = Kidney(center, radii.astype(np.float32), frame.astype(np.float32), side, sinus, cysts)
