"""Paints the phantom's frame: skin, fat, muscles, spine, ribs, pelvis, lungs and heart."""

from __future__ import annotations

import numpy as np

from AGTraining.data.phantom_patient import Patient
from AGTraining.data.phantom_shapes import Array, Canvas, ellipsoid, smooth_max, superellipse

_CORTICAL_HU = 420.0


def paint_wall(p: Patient, c: Canvas) -> tuple[Array, Array]:
    """Skin, fat and the muscles of the wall. Returns the distances to the cavity's wall and (in z) to the diaphragm."""
    x, y, z = c.x, c.y, c.z
    half_width, half_depth, behind = p.skin_mm
    waist = 1 - 0.05 * np.exp(-(((z + 55) / 45) ** 2)) + 0.03 * np.exp(-(((z + 150) / 50) ** 2))
    skin = superellipse(x, y - behind, half_width * waist, half_depth * waist, 2.25)
    skin += p.furrow * np.exp(-((x / 24) ** 2)) * (y > 0)
    fat = p.fat_hu + 5.0 * c.texture
    c.paint_all(skin, 15.0)
    c.paint_all(skin + 2.0, fat)

    depth = np.where(y < -5, np.float32(p.girth), np.float32(92.0))
    cavity = superellipse(x, y + 5, p.half_width * waist, depth, p.power)
    _notch_back(c, cavity)
    thickness = 8.0 + 7.0 * np.clip(np.abs(x) / 110, 0, 1) + 6.0 * (y > 0)
    muscle = p.hu["muscle"] * (1 - 0.25 * p.marbling) + 7.0 * c.texture
    c.paint_all(np.maximum(cavity - thickness, skin + 5.0), muscle)
    # Fat between the layers of the lateral wall.
    plane = np.abs(cavity - 0.5 * thickness) - 0.7
    c.paint_all(np.maximum(plane, 1.5 - (np.abs(x) - 60) * 0.1), fat)
    c.paint_all(cavity, fat + 45 * np.clip(c.strands - 1.7, 0, 1))

    fraction = np.clip(1 + np.minimum(cavity, 0) / (0.5 * (p.half_width + depth)), 0, 1.2)
    left = 1 / (1 + np.exp(-x / 22))
    top = p.dome[0] * (1 - left) + p.dome[1] * left - 12 * np.exp(-((x / 30) ** 2))
    # The lungs reach deepest behind and end early in front.
    recess = 70 + 0.45 * np.clip(y, -100, 90)
    return cavity, z - (top - recess * fraction**13)


def _back_muscle(x: Array, y: Array, z: Array) -> Array:
    """Distance to the muscle on either side of the spine, which is slimmer behind the chest."""
    thorax = np.clip((z - 20) / 80, 0, 1)
    return superellipse(np.abs(x) - 36 + 3 * thorax, y - 84 - 7 * thorax, 36.0 - 3 * thorax, 25.0 - 9 * thorax, 2.6)


def _notch_back(c: Canvas, cavity: Array) -> None:
    """Lets the cavity (and with it the ribs) pass in front of the back's muscles."""
    box = c.box((-100, 45, -1e4), (100, 138, 1e4))
    if box is not None:
        part = cavity[box]
        part[:] = smooth_max(part, 10.0 - _back_muscle(*c.place(box)), 10.0)


def paint_skeleton(p: Patient, c: Canvas, cavity: Array) -> None:
    """Spine with the muscles along it, ribs, and the wings of the pelvis."""
    _paint_spine(p, c)
    if c.zs.max() > -120:
        _paint_ribs(p, c, cavity)
    if c.zs.min() < -60:
        _paint_pelvis(p, c, cavity)


def _paint_spine(p: Patient, c: Canvas) -> None:
    box = c.box((-105, -15, -1e4), (105, 138, 1e4))
    if box is None:
        return
    x, y, z = c.place(box)
    x = x - p.spine_bend * np.sin(z / 90)
    ax = np.abs(x)
    texture, strands = c.texture[box], c.strands[box]
    muscle = p.hu["muscle"] + 6 * texture
    back = _back_muscle(x, y, z)
    c.paint(box, np.maximum(back - 3, 6.0 - ax), p.fat_hu)
    c.paint(box, back, muscle - p.marbling * 90 * np.clip(strands - 0.6, 0, 1.2))
    c.paint(box, np.maximum(superellipse(ax - 62, y - 62, 22.0, 11.0, 2.0), np.abs(z + 60) - 70), muscle)
    grow = np.clip((35 - z) / 120, 0.05, 1.0)
    radius = 24 * np.sqrt(grow) * p.psoas
    psoas = np.maximum(superellipse(ax - 30 - 14 * grow, y - 37 + 10 * grow, radius, radius * 1.15, 2.0), z - 32)
    c.paint(box, psoas - 2, p.fat_hu)
    c.paint(box, psoas, muscle)
    crus = np.maximum(np.abs(np.hypot(x - 2, y - 18) - 27) - 4.0, np.maximum(y - 22, -z - 30))
    c.paint(box, np.maximum(crus, 8 - ax), muscle)

    phase = np.mod(z + p.vertebra_phase, p.vertebra) - p.vertebra / 2
    height = np.abs(phase)
    flare = 1 + 0.12 * (height / (p.vertebra / 2)) ** 2
    disc = p.vertebra / 2 - 4.5
    body = superellipse(x, y - 33, 22.5 * flare, 17.5 * flare, 2.2)
    c.paint(box, body, 85.0 + 5 * texture)
    bone = np.maximum(body, height - disc)
    c.paint(box, bone, _CORTICAL_HU)
    c.paint(box, bone + 2.0, p.bone_hu + 28 * texture + 18 * strands)
    arch = np.maximum(np.abs(np.hypot(x * 0.95, y - 58) - 13) - 3.5, height - disc * np.where(y > 52, 1.0, 0.6))
    spinous = np.maximum(np.maximum(ax - 3.5, np.abs(y - 86) - 18), np.abs(phase + 4) - 10)
    wing = np.maximum(np.maximum(np.abs(y - 58 - 0.12 * ax) - 4.0, np.maximum(ax - 40, 12 - ax)), np.abs(phase - 4) - 6)
    facet = np.maximum(np.hypot(ax - 18, y - 66) - 7.5, np.abs(height - p.vertebra / 2) - 9)
    for part in (arch, spinous, wing, facet):
        c.paint(box, part, _CORTICAL_HU)
        c.paint(box, part + 2.0, p.bone_hu + 70)
    c.paint(box, np.hypot(x * 0.9, y - 58) - 10.5, 10.0)
    c.paint(box, np.hypot(x, y - 58) - 6, 35.0)


def _paint_ribs(p: Patient, c: Canvas, cavity: Array) -> None:
    """Bands that fall from the spine along the wall, one every 28 mm, none below the costal margin."""
    around = np.arctan2(np.abs(c.x), c.y + 5)
    level = c.z + 62 * around + p.rib_phase
    across = np.mod(level, 28.0) - 14.0
    number = np.floor(level / 28.0)
    front_end = np.clip(0.75 + 0.42 * (number - 2), 0.45, 2.5)
    rib = np.hypot(np.maximum(np.abs(cavity - 7.5) - 1.5, 0), np.maximum(np.abs(across) - 2.0, 0) * 0.8) - 2.6
    rib = np.maximum(rib, np.maximum((around - front_end) * 60, (number < 1) * np.float32(50)))
    c.paint_all(rib, _CORTICAL_HU - 40)
    c.paint_all(rib + 1.7, p.bone_hu)


def _paint_pelvis(p: Patient, c: Canvas, cavity: Array) -> None:
    ax = np.abs(c.x)
    side, back = ax - 95 - (c.z + 100) * 0.25, c.y - 25
    thickness = np.clip(4 - (c.z + 95) * 0.05, 3, 11)
    wing = np.abs(0.72 * side + 0.69 * back + 0.004 * (0.72 * back - 0.69 * side) ** 2) - thickness
    wing = np.maximum(np.maximum(wing, cavity - 5), np.maximum(np.hypot((c.y - 30) * 0.8, c.z + 175) - 85, 35 - ax))
    c.paint_all(np.maximum(wing - 12, cavity - 14), p.hu["muscle"] + 6 * c.texture)
    c.paint_all(wing, _CORTICAL_HU)
    c.paint_all(wing + 2.2, p.bone_hu)
    if c.zs.min() < -140:
        c.paint_all(ellipsoid(c.x, c.y + 20, c.z + 205, (42.0, 36.0, 32.0)) - 3, p.hu["bowel"])
        c.paint_all(ellipsoid(c.x, c.y + 20, c.z + 205, (42.0, 36.0, 32.0)), 6.0)


def paint_chest(p: Patient, c: Canvas, cavity: Array, dome: Array) -> None:
    """Diaphragm, lungs above it, and the heart on it."""
    if c.zs.max() < -20:
        return
    x, y, z = c.x, c.y, c.z
    spine = 36 - np.hypot(x * 0.85, y - 38)
    lung = np.maximum(np.maximum(cavity + 2, -dome), np.maximum(spine, (8 - z) * 0.5))
    muscle = np.maximum(np.abs(dome) - 1.5, np.maximum(cavity, spine))
    c.paint_all(np.maximum(muscle, 20 - z), p.hu["muscle"])
    c.paint_all(lung, -860.0 + 40 * c.texture + 750 * np.clip(c.strands - 1.7, 0, 1))
    mediastinum = np.hypot(x * 0.8 - 4, (y - 5) * 0.6) - 24
    c.paint_all(np.maximum(mediastinum, lung), p.fat_hu + 60)
    heart = np.maximum(ellipsoid(x - 22, y + 38, z - p.dome[1] - 32, (62.0, 50.0, 46.0)), lung)
    c.paint_all(np.maximum(heart - 4, lung), p.fat_hu)
    c.paint_all(heart, p.hu["cava"] * 0.8)
    c.paint_all(heart + 14, p.hu["cava"] + 20)
