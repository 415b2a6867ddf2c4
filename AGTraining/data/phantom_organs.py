"""Paints the phantom's organs and vessels: later ones lie on top of earlier ones, each in a thin film of fat."""

from __future__ import annotations

import numpy as np

from AGTraining.data.phantom_body import paint_chest, paint_skeleton, paint_wall
from AGTraining.data.phantom_patient import LABELS, Gut, Kidney, Patient
from AGTraining.data.phantom_shapes import Array, Canvas, Tube, ellipsoid, overlap, rotation, smooth_max

_TARGETS = (1, 2, 3, 4)
_FAR = np.float32(50.0)


def paint_patient(p: Patient, c: Canvas) -> None:
    """Paints the whole patient into the slab, from the outside in."""
    c.texture, c.strands = p.texture(c.xs, c.ys, c.zs), p.strands(c.xs, c.ys, c.zs)
    cavity, dome = paint_wall(p, c)
    paint_skeleton(p, c, cavity)
    paint_chest(p, c, cavity, dome)
    for tube in p.mesenteric:
        _paint_tube(c, tube, 0.75 * p.hu["portal"])
    _paint_liver(p, c, cavity, dome)
    limit = np.maximum(cavity + 2.0, dome + 4.0)
    for loop in p.loops:
        _paint_gut(p, c, loop, LABELS["small_bowel"], limit)
    _paint_gut(p, c, p.colon, LABELS["colon"], limit)
    _paint_tube(c, p.esophagus, p.hu["bowel"] * 0.8, LABELS["esophagus"])
    _paint_gut(p, c, p.stomach, LABELS["stomach"], limit)
    _paint_gallbladder(p, c)
    _paint_gut(p, c, p.duodenum, LABELS["duodenum"], limit)
    for name, kidney in p.kidney.items():
        _paint_kidney(p, c, name, kidney, cavity)
    _paint_spleen(p, c, cavity, dome)
    _paint_vessels(p, c)
    _paint_pancreas(p, c)


def _paint_tube(c: Canvas, tube: Tube, hu: float, label: int | None = None, keep: tuple[int, ...] = ()) -> None:
    """A solid tube; organs in `keep` stay as they are."""
    found = c.tube(tube, 2.0)
    if found is not None:
        where, distance, _ = found
        if keep:
            distance = np.where(np.isin(c.labels[where], keep), _FAR, distance)
        c.paint(where, distance, hu, label)


def _paint_liver(p: Patient, c: Canvas, cavity: Array, dome: Array) -> None:
    box = c.box((-155, -130, -90), (100, 95, 145))
    if box is None:
        return
    x, y, z = c.place(box)
    grow = 5.0 * p.liver_size
    wall = np.maximum(cavity[box] + 3.0, dome[box] + 2.0)
    # The lower surface climbs from the right edge to the left, and a little to the back.
    lower = -44 - grow + 0.50 * np.maximum(x + 125, 0) + 0.10 * np.maximum(x + 30, 0) + 0.12 * (y + 20)
    medial = (x - 2 + 0.85 * (y + 22)) * 0.75 - grow * 0.5
    right = smooth_max(smooth_max(wall, (lower - z) * 0.86, 14.0), smooth_max(medial, x - 40, 18.0), 14.0)
    behind = (y + 46 + 0.12 * x + 0.25 * (z - 70)) * 0.95
    below = 36 + 0.3 * np.maximum(x, 0) - z
    left = smooth_max(smooth_max(wall, x - p.left_lobe - grow, 12.0), smooth_max(behind, below, 12.0), 10.0)
    liver = -smooth_max(-right, -left, 10.0) + 2.5 * c.field(p.edges, box)
    c.paint(box, liver, p.hu["liver"] + 2.0 * c.texture[box], LABELS["liver"])
    # The fissure between the lobes opens downwards and to the front.
    width = np.clip((66 - z) * 0.12, -3, 4) + np.clip((-60 - y) * 0.05, -3, 2)
    fissure = np.maximum(np.abs(x + 24 + 0.25 * (y + 60)) - width, y + 34)
    fissure += 0.8 * c.strands[box]
    c.paint(box, np.where(liver < 2, fissure, _FAR), p.fat_hu + 20, 0)
    for tube in p.liver_vessels:
        found = c.tube(tube, 2.0)
        both = overlap(found[0], box) if found is not None else None
        if found is not None and both is not None:
            where, a, b = both
            c.paint(where, np.maximum(found[1][a], liver[b] + 4), p.hu["portal"] * 0.96)
    for lesion in p.lesions:
        part = c.box(lesion.center - lesion.radius, lesion.center + lesion.radius)
        both = overlap(part, box) if part is not None else None
        if both is not None:
            where, _, b = both
            lx, ly, lz = c.place(where)
            ball = np.sqrt((lx - lesion.center[0]) ** 2 + (ly - lesion.center[1]) ** 2 + (lz - lesion.center[2]) ** 2)
            c.paint(where, np.maximum(ball - lesion.radius, liver[b]), lesion.hu)


def _paint_gallbladder(p: Patient, c: Canvas) -> None:
    if p.gallbladder is None:
        return
    center, radii, angle = p.gallbladder
    box = c.box(center - radii.max(), center + radii.max())
    if box is None:
        return
    u, v, w = c.local(box, center, rotation(0, angle))
    bladder = ellipsoid(u, v, w, (radii[0], radii[1], radii[2])) + 0.8 * c.texture[box]
    c.paint(box, bladder - 1.5, p.hu["bowel"], 0)
    c.paint(box, bladder, p.bile_hu, LABELS["gallbladder"])


def _paint_gut(p: Patient, c: Canvas, gut: Gut, label: int, limit: Array) -> None:
    """Wall, contents, and gas in front (the patient lies on the back). limit: distance to the cavity's end."""
    found = c.tube(gut.tube)
    if found is None:
        return
    where, d, along = found
    y, strands = c.y[where], c.strands[where]
    curve, radii = gut.tube.curve, gut.tube.curve_radii
    d = smooth_max(d + 1.2 * strands, limit[where], 6.0)
    if gut.stool:
        d += 2.2 * np.sin(along * 1.9)
    c.paint(where, d - 1.5, p.fat_hu, 0)
    c.paint(where, d, p.hu["bowel"], label)
    inside = d + gut.wall
    contents: float | Array = gut.fluid
    if gut.stool:
        bubbles = 500 * np.clip(strands - 0.9, 0, 1) + 300 * np.clip(c.texture[where] - 1.2, 0, 1)
        contents = gut.fluid + 25 * strands - bubbles
    c.paint(where, inside, contents)
    if len(gut.gas) == 1:
        # One lumen has one level.
        level = float(curve[:, 1].mean() + gut.gas[0] * radii.max())
        c.paint(where, np.maximum(inside, y - np.float32(level)), -960.0)
        return
    index = np.arange(len(curve))
    share = np.interp(index, np.linspace(0, index[-1], len(gut.gas)), gut.gas)
    level_y = np.interp(along, index, curve[:, 1] + share * radii).astype(np.float32)
    empty = np.interp(along, index, share) < -0.95
    c.paint(where, np.where(empty, _FAR, np.maximum(inside, y - level_y)), -960.0)


def _paint_kidney(p: Patient, c: Canvas, name: str, k: Kidney, cavity: Array) -> None:
    reach = k.radii.max() + 12
    box = c.box(k.center - reach, k.center + reach)
    if box is None:
        return
    u, v, w = c.local(box, k.center, k.frame)
    # Bean: the poles bend to the middle.
    out = k.side * u + 0.0042 * w * w - 5.0
    a, b, length = (float(r) for r in k.radii)
    kidney = smooth_max(ellipsoid(out, v, w, (a, b, length)) + 1.3 * c.field(p.edges, box), cavity[box] + 1.5, 4.0)
    c.paint(box, np.maximum(kidney - 8.0, cavity[box] + 1), p.fat_hu + 5 * c.strands[box], 0)
    if p.kidneys == "both" or name.endswith(p.kidneys):
        label = LABELS[name]
        labels = c.labels[box]
        c.paint(box, kidney, p.hu["cortex"] + 3 * c.texture[box], label)
        pyramids = np.cos(np.arctan2(v, out + 0.5 * a) * 5.0 + 0.6 * c.texture[box]) * np.cos(w / 6.5)
        c.paint(box, np.maximum(kidney + 6.0, -6.0 * (pyramids + 0.35)), p.hu["medulla"])
        sinus = ellipsoid(out + 0.75 * a, v, w, (0.95 * a, 8.0 + 4 * k.sinus, 23 + 5 * k.sinus)) + 2.5 * c.strands[box]
        c.paint(box, np.maximum(sinus, kidney - 1), p.fat_hu + 12)
        labels[(sinus < 0) & (labels == label)] = 0
        pelvis = ellipsoid(out + 0.9 * a, v, w, (0.7 * a, 4.5, 12.0)) + 1.5 * c.strands[box]
        c.paint(box, pelvis, 10.0)
        for cyst in k.cysts:
            cx, cy, cz = cyst.center * k.radii / np.array((30, 25, 45), np.float32)
            ball = np.sqrt((out - cx) ** 2 + (v - cy) ** 2 + (w - cz) ** 2) - cyst.radius
            c.paint(box, ball, cyst.hu)
            labels[(ball < 0) & (labels == label)] = 0
        hilum = k.center + k.frame @ np.array([-k.side * 14, 0, 0])
        end = (-16, -8) if k.side < 0 else (-4, -17)
        vein = Tube([hilum, k.center * (0.62, 0.2, 0.6) + (0, -4, 4), (*end, k.center[2] * 0.4 + 4)], [4.5, 5.0, 5.0])
        artery = Tube([hilum + (0, 3, 3), k.center * 0.5 + (0, 0, 4), (10, -2, 6)], [2.6, 3.0, 3.2])
        keep = (*_TARGETS, LABELS["liver"])
        _paint_tube(c, vein, p.hu["cava"] * (1.0 if p.phase == "none" else 1.2), keep=keep)
        _paint_tube(c, artery, p.hu["aorta"], keep=keep)
    top = k.center + k.frame @ np.array([0, 0, 0.8 * length]) + (-k.side * 18, -16, 6)
    adrenal = LABELS["adrenal_right" if k.side < 0 else "adrenal_left"]
    limbs = ([top + (0, -9, 6), top, top + (k.side * 11, 13, -8)], [top + (0, -5, 2), top + (-k.side * 2, 16, -4)])
    for points in limbs:
        _paint_tube(c, Tube(points, [6.5, 6.5, 5.5][: len(points)]), p.fat_hu, 0, keep=(7,))
        _paint_tube(c, Tube(points, [3.6, 4.0, 2.6][: len(points)]), p.hu["adrenal"], adrenal, keep=(7,))


def _paint_spleen(p: Patient, c: Canvas, cavity: Array, dome: Array) -> None:
    s = p.spleen
    box = c.box(s.center - 88, s.center + 88)
    if box is None:
        return
    x, y, z = c.place(box)
    u, v, w = c.local(box, s.center, rotation(2, -28.0))
    whole = ellipsoid(u, v + 0.25 * w, w, s.radii)
    hollow = s.hollow_radius - np.sqrt((x - s.hollow[0]) ** 2 + (y - s.hollow[1]) ** 2 + 0.5 * (z - s.hollow[2]) ** 2)
    wall = np.maximum(cavity[box] + 3.0, dome[box] + 2.5)
    spleen = smooth_max(smooth_max(whole, wall, 7.0), hollow, 9.0) + 1.6 * c.field(p.edges, box)
    spleen = np.where(np.isin(c.labels[box], (3, 4)), _FAR, spleen)
    c.paint(box, spleen - 2.0, p.fat_hu, 0)
    hu = p.hu["spleen"] + 2 * c.texture[box]
    if p.phase == "arterial":
        # The red pulp fills in streaks at first.
        hu = hu + 22 * np.sin(0.55 * u + 2 * c.texture[box]) * np.cos(0.4 * w)
    c.paint(box, spleen, hu, LABELS["spleen"])


def _paint_vessels(p: Patient, c: Canvas) -> None:
    """The great vessels, with the visceral ones, which spare the organs that they run along."""
    aorta, cava, liver = LABELS["aorta"], LABELS["inferior_vena_cava"], LABELS["liver"]
    for tube, hu, label in (
        (p.cava, p.hu["cava"], cava),
        (p.portal, p.hu["portal"], 0),
        (p.aorta, p.hu["aorta"], aorta),
        (p.iliac, p.hu["aorta"], aorta),
        (p.sma, p.hu["aorta"], 0),
        (p.celiac, p.hu["aorta"], 0),
        (p.splenic_artery, p.hu["aorta"], 0),
        (p.splenic_vein, p.hu["portal"], 0),
    ):
        found = c.tube(tube, 4.0)
        if found is None:
            continue
        where, distance, _ = found
        labels = c.labels[where]
        if label == 0:
            distance = np.where(np.isin(labels, _TARGETS), _FAR, distance)
        c.paint(where, np.where(np.isin(labels, (*_TARGETS, liver)), _FAR, distance - 2.0), p.fat_hu, 0)
        within_liver = (labels == liver) & (label == 0)
        c.paint(where, distance, hu, label)
        labels[within_liver] = liver
        if label == aorta:
            plaque = np.maximum(np.abs(distance + 0.8) - 1.0, (p.calcified - c.texture[where]) * 4)
            c.paint(where, plaque, 550.0)


def _paint_pancreas(p: Patient, c: Canvas) -> None:
    found = c.tube(p.pancreas, 7.0)
    if found is None:
        return
    where, distance, _ = found
    lobules = c.field(p.lobules, where)
    labels = c.labels[where]
    others = np.isin(labels, (2, 3, 4, LABELS["aorta"], LABELS["inferior_vena_cava"]))
    # Vessels without a label are kept too: the splenic vein lies in a groove of the gland.
    for tube in (p.splenic_vein, p.portal, p.sma, p.celiac):
        vessel = c.tube(tube, 3.0)
        both = overlap(vessel[0], where) if vessel is not None else None
        if vessel is not None and both is not None:
            others[both[2]] |= vessel[1][both[1]] < 1.0
    distance = np.where(others, _FAR, distance + p.pancreas_edge * lobules)
    c.paint(where, distance - 2.0, p.fat_hu, 0)
    hu = p.hu["pancreas"] + 4 * c.texture[where] - p.fatty_pancreas * 70 * np.clip(lobules - 0.5, 0, 1.2)
    c.paint(where, distance, hu, LABELS["pancreas"])
