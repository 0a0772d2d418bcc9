"""Pre- and post-processing in numpy alone, for programs that run an exported file without this package.

:mod:`seg_det.export.runner` copies the *source* of the functions that one file needs. Each names others of this file, ``np``,
``Image`` and ``ImageDraw`` only. A rule of resizing is a function of its name.
"""

import numpy as np
from PIL import Image, ImageDraw


def centres(count, content, length, offset=0):
    """Where the centres of pixels of the canvas lie in the image."""
    return (np.arange(count) + 0.5 + offset) * (length / content)


def as_input(x):
    return np.ascontiguousarray(x.transpose(2, 0, 1)[None], np.float32)


def stretch(card, image):
    """The image u8 [H, W, 3] as input f32 [1, 3, h, w]: OpenCV's INTER_LINEAR of bytes, its fixed-point arithmetic included."""
    taps = []
    for axis, count in enumerate(card["input_size"]):
        place = (centres(count, count, image.shape[axis]) - 0.5).astype(np.float32)
        low = np.floor(place).astype(int)
        share = np.rint((place - low) * 2048).astype(int).reshape((-1, 1, 1) if axis == 0 else (-1, 1))
        taps.append((np.maximum(low, 0), np.minimum(low + 1, image.shape[axis] - 1), share))
    (top, bottom, down), (left, right, across) = taps
    x = (image[:, left].astype(int) * (2048 - across) + image[:, right].astype(int) * across) >> 4
    return as_input((x[top] * (2048 - down) >> 16) + (x[bottom] * down >> 16) + 2 >> 2)


def antialiased(card, x, contents, offsets=(0, 0)):
    """The image scaled to ``contents`` (rows, columns) and cut by a triangle filter, whose width grows as it shrinks."""
    for axis in (1, 0):
        length, content = x.shape[axis], contents[axis]
        place = centres(card["input_size"][axis], content, length, offsets[axis])
        place = np.append(place, length / content / 2)[:, None]  # and the first pixel's, which may be cut off
        weights = np.maximum(0, 1 - np.abs(place - np.arange(length) - 0.5) / max(1, length / content))
        weights *= (place < length) / np.maximum(weights.sum(1, keepdims=True), 1e-6)
        unit = 2 ** np.floor(np.log2((2**15 - 0.5) / weights.max()))  # torch rounds the weights of bytes to 16 bits
        weights = (np.rint(weights * unit) / unit)[:-1].astype(np.float32)
        x = np.floor(np.moveaxis(np.tensordot(weights, x, (1, axis)), 0, axis) + 0.5)
    return x


def stretch_antialiased(card, image):
    return as_input(antialiased(card, image, card["input_size"]))


def letterbox(card, image):
    """The image u8 [H, W, 3] as input f32 [1, 3, h, w]: as large as it fits, the mean below or beside it."""
    rows, columns = contents(card, image.shape[:2])
    x = antialiased(card, image, (rows, columns))
    x[rows:] = x[:, columns:] = np.rint(card["mean"])
    return as_input(x)


def centre_crop(card, image):
    """The middle seven eighths of the image's shorter side as input f32 [1, 3, h, w]."""
    wanted, size = card["input_size"], image.shape[:2]
    scale = max(w / 0.875 / s for w, s in zip(wanted, size))
    scaled = [max(w, round(s * scale)) for w, s in zip(wanted, size)]
    return as_input(antialiased(card, image, scaled, [(c - w) // 2 for c, w in zip(scaled, wanted)]))


def contents(card, size):
    """How many rows and columns of the canvas an image of ``size`` (H, W) takes."""
    if card["resize"] != "letterbox":
        return card["input_size"]
    scale = min(w / s for w, s in zip(card["input_size"], size))
    return [max(1, round(s * scale)) for s in size]


def softmax(x, axis):
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def detect(card, anchors, logits, deltas):
    """Boxes in pixels of the input, scores and labels: decoding and exact greedy suppression, class by class."""
    use = card["postprocess"]
    scores = (softmax(logits, 1) if use["score"] == "softmax" else 1 / (1 + np.exp(-logits)))[:, 1:]
    wh = anchors[:, 2:] - anchors[:, :2]
    middle = deltas[:, :2] / 10 * wh + (anchors[:, :2] + anchors[:, 2:]) / 2
    half = np.exp(np.minimum(deltas[:, 2:] / 5, np.log(1000 / 16))) * wh / 2
    limit = np.array([*card["input_size"][::-1]] * 2, np.float32)
    boxes = np.clip(np.hstack([middle - half, middle + half]), 0, limit)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    found = []
    for label in range(scores.shape[1]):
        order = np.argsort(-scores[:, label], kind="stable")[: use["max_candidates"]]
        order = order[scores[order, label] > use["score_threshold"]]
        while len(order):
            best, order = order[0], order[1:]
            found.append((scores[best, label], label, best))
            sides = np.minimum(boxes[best, 2:], boxes[order, 2:]) - np.maximum(boxes[best, :2], boxes[order, :2])
            overlap = np.maximum(sides, 0).prod(1)
            order = order[overlap <= use["iou_threshold"] * (area[best] + area[order] - overlap)]
    found = sorted(found, key=lambda row: -row[0])[: use["max_detections"]]
    scores, labels, rows = zip(*found) if found else ((), (), ())
    return boxes[list(rows)].reshape(-1, 4), np.array(scores), np.array(labels, int)


def interpolate(x, places, axis):
    """Linear interpolation along an axis, at places counted from the first cell's centre."""
    places = np.clip(places, 0, x.shape[axis] - 1)
    low = places.astype(int)
    high = np.minimum(low + 1, x.shape[axis] - 1)
    share = (places - low).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(x.ndim)])
    return np.take(x, low, axis) * (1 - share) + np.take(x, high, axis) * share


def label_map(card, logits, size):
    """The class of each pixel of an image of a size, from the map [C, h, w] of its canvas."""
    seen, align = card["input_size"], card["postprocess"].get("align_corners", False)
    for axis, content in enumerate(contents(card, size)):
        cells = logits.shape[axis + 1]
        share = (np.arange(size[axis]) + 0.5) * content / (size[axis] * seen[axis])
        place = (share * seen[axis] - 0.5) * (cells - 1) / max(1, seen[axis] - 1) if align else share * cells - 0.5
        if card["postprocess"].get("output") == "labels":
            logits = np.take(logits, np.clip(np.floor(place + 0.5), 0, cells - 1).astype(int), axis + 1)
        else:
            logits = interpolate(logits, place, axis + 1)
    return logits.argmax(0).astype(np.uint8)


def of_file(card, boxes, size):
    """Boxes in pixels of the input as boxes in pixels of the file."""
    return boxes * (np.array([*size[::-1]] * 2) / np.array([*card["input_size"][::-1]] * 2))


def detection_full(about, out, size):
    return tuple(out[name][: int(out["count"])] for name in ("boxes", "scores", "labels"))


def detection_normalised(about, out, size):
    boxes, scores, labels = (out[name][0][: int(out["count"][0])] for name in ("boxes", "scores", "labels"))
    return of_file(about["card"], boxes, size), scores, labels


def detection_raw(about, out, size):
    anchors = np.array(about["export"]["anchors"], np.float32)
    boxes, scores, labels = detect(about["card"], anchors, out["logits"][0], out["deltas"][0])
    return of_file(about["card"], boxes, size), scores, labels


def segmentation_full(about, out, size):
    return out["mask"].astype(np.uint8)


def segmentation_normalised(about, out, size):
    mask, sides = out["mask"][0].astype(np.uint8), contents(about["card"], size)
    rows, columns = (np.floor(centres(s, s, c)).astype(int) for s, c in zip(size, sides))
    return mask[rows][:, columns]


def segmentation_raw(about, out, size):
    return label_map(about["card"], out["logits"][0], size)


def classification_full(about, out, size):
    return out["scores"]


def classification_normalised(about, out, size):
    return out["scores"][0]


def classification_raw(about, out, size):
    return softmax(out["logits"][0], 0)


def colour(index):
    """Of a class, VOC's: the bits of its number spread over the three channels."""
    bits = [(index >> 3 * place + channel & 1) << 7 - place for channel in range(3) for place in range(8)]
    return tuple(sum(bits[8 * channel : 8 * channel + 8]) for channel in range(3))


def show_detection(about, image, found, score):
    drawing = Image.fromarray(image)
    draw, rows = ImageDraw.Draw(drawing), []
    for box, value, label in zip(*found):
        if value >= score:
            category, ink = about["card"]["categories"][int(label)], colour(int(label) + 1)
            box = [float(side) for side in box]
            rows.append({**category, "box": box, "score": float(value)})
            draw.rectangle(box, outline=ink, width=3)
            draw.text((box[0] + 4, box[1] + 2), f"{category['name']} {value:.2f}", fill=ink)
    return rows, drawing


def show_segmentation(about, image, mask, score):
    palette = np.array([colour(index) for index in range(256)], np.uint8)
    shares = np.bincount(mask.ravel(), minlength=256) / mask.size
    names = [(category["name"], float(share)) for category, share in zip(about["card"]["categories"], shares)]
    content = {"size": list(mask.shape), "shares": {name: share for name, share in names if share}}
    return content, Image.fromarray((image // 2 + palette[mask] // 2).astype(np.uint8))


def show_classification(about, image, scores, score):
    categories, drawing = about["card"]["categories"], Image.fromarray(image)
    rows = [{**categories[i], "score": float(scores[i])} for i in np.argsort(-scores)[:5]]
    ImageDraw.Draw(drawing).text((4, 4), f"{rows[0]['name']} {rows[0]['score']:.2f}", fill=(255, 0, 0))
    return rows, drawing
