"""One frame's pixels gathered by voxel, and added to the map's rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vlm_nodes.mapping.jit import kernel
from vlm_nodes.mapping.voxel_index import EMPTY, pack_key, slot_of
from vlm_nodes.mapping.voxel_store import CHUNK_ROWS, CHUNK_SHIFT, Chunk

# Columns of a voxel's sums over one frame's pixels.
WEIGHT, X, Y, Z, COLOR_WEIGHT, RED, GREEN, BLUE, COUNT, CORNERS = range(10)


class Band:
    """Sums over some rows of one depth image, by voxel; buffers are kept from frame to frame.

    A voxel's features are a weighted sum of patches. Pixels between the same four patch centres
    (a cell) share them, so each voxel keeps a short list of cells with four bilinear weights: a
    sparse voxel x patch matrix.

    Attributes:
        keys: (P,) int64, packed voxel keys.
        sums: (P, 9) float32, sums of weight, offset, colour weight, colour and count.
        head: (P,) int32, first cell of each voxel, -1 for none.
        cells: (P,) int32, the cell a list entry belongs to: its upper left patch.
        cell_next: (P,) int32, next entry of the same voxel.
        cell_weights: (P, 4) float32, weights of the cell's patches, row by row.
        size: Voxels in use.
        pixels_used: Depth pixels that were fused.
    """

    def __init__(self) -> None:
        self.size = 0
        self.pixels_used = 0
        self._reserve(0)

    def _reserve(self, pixels: int) -> None:
        self.keys = np.empty(pixels, dtype=np.int64)
        self.sums = np.empty((pixels, CORNERS), dtype=np.float32)
        self.head = np.empty(pixels, dtype=np.int32)
        self.cells = np.empty(pixels, dtype=np.int32)
        self.cell_next = np.empty(pixels, dtype=np.int32)
        self.cell_weights = np.empty((pixels, 4), dtype=np.float32)
        self.slots = np.empty(1 << max(4, int(1.6 * pixels).bit_length()), dtype=np.int32)

    def scan(self, scan: Scan, start: int, stop: int) -> None:
        """Gather image rows [start, stop)."""
        pixels = (stop - start) * scan.depth_m.shape[1]
        if pixels > self.keys.size:
            self._reserve(pixels)
        self.slots.fill(EMPTY)
        self.size, self.pixels_used = _scan_rows(
            scan.depth_m,
            scan.rays,
            scan.rgb,
            scan.color_pixels,
            scan.pose,
            scan.numbers,
            scan.origin,
            scan.patch_rows,
            scan.patch_cols,
            start,
            stop,
            self.slots,
            self.keys,
            self.sums,
            self.head,
            self.cells,
            self.cell_next,
            self.cell_weights,
        )


@dataclass(frozen=True)
class Scan:
    """What a band needs to know of a frame.

    Attributes:
        depth_m: (H, W) float32.
        rays: (H, W, 2) float32 of the depth camera.
        rgb: (h, w, 3) uint8.
        color_pixels: (H, W, 2) float32, or (0, 1, 2) where depth is registered to colour.
        pose: (4, 4) float64 map_from_depth.
        numbers: (5,) float64: voxel size, minimum and maximum depth, weight distance, edge jump.
        origin: (3,) int64, the voxel that has key coordinates 0.
        patch_rows: Rows of the patch grid; 0 where the frame has no features.
        patch_cols: Columns of the patch grid.
    """

    depth_m: NDArray[np.float32]
    rays: NDArray[np.float32]
    rgb: NDArray[np.uint8]
    color_pixels: NDArray[np.float32]
    pose: NDArray[np.float64]
    numbers: NDArray[np.float64]
    origin: NDArray[np.int64]
    patch_rows: int
    patch_cols: int


@kernel
def _row_weights(
    depth_m: NDArray[np.float32], row: int, numbers: NDArray[np.float64], out: NDArray[np.float32]
) -> None:
    """Weights (W,) of one row's pixels; 0 marks a pixel that is not fused."""
    low, high = np.float32(numbers[1]), np.float32(numbers[2])
    falloff = np.float32(1.0 / (numbers[3] * numbers[3]))
    one, two, most, huge = np.float32(1), np.float32(2), np.float32(100), np.float32(1e30)
    sharp = np.float32(1.0 / numbers[4] if numbers[4] > 0.0 else 0.0)
    here, last = depth_m[row], depth_m.shape[1] - 1
    above, below = depth_m[max(row - 1, 0)], depth_m[min(row + 1, depth_m.shape[0] - 1)]
    inner = one if 0 < row < depth_m.shape[0] - 1 else np.float32(0.0)
    for col in range(here.size):
        d = here[col]
        # A plane's inverse depth is linear in the pixel, whatever its slope, so its second
        # difference times the depth is the relative jump off the plane. Readings beside a hole
        # (NaN or 0) count as smooth.
        down = inner * abs(d / above[col] + d / below[col] - two)
        left, right = here[max(col - 1, 0)], here[min(col + 1, last)]
        across = abs(d / left + d / right - two) if 0 < col < last else np.float32(0.0)
        down = down if down < huge else np.float32(0.0)
        across = across if across < huge else np.float32(0.0)
        bend = across if across > down else down
        ratio = bend * sharp
        ratio = ratio if ratio < most else most
        weight = one / ((one + d * d * falloff) * (one + ratio * ratio))
        out[col] = weight if (d >= low) & (d <= high) else np.float32(0.0)


@kernel
def _row_keys(
    depths: NDArray[np.float32],
    rays: NDArray[np.float32],
    pose: NDArray[np.float64],
    scale: float,
    origin: NDArray[np.int64],
    weights: NDArray[np.float32],
    keys: NDArray[np.int64],
    inside: NDArray[np.float32],
) -> None:
    """Voxel keys (W,) of one row's pixels, -1 where not fused, and (3, W) where in their voxel."""
    a, b, c = pose[0] * scale, pose[1] * scale, pose[2] * scale
    for col in range(depths.size):
        if weights[col] == 0.0:
            keys[col] = -1
            continue
        d = np.float64(depths[col])
        x, y = rays[col, 0], rays[col, 1]
        px = (a[0] * x + a[1] * y + a[2]) * d + a[3]
        py = (b[0] * x + b[1] * y + b[2]) * d + b[3]
        pz = (c[0] * x + c[1] * y + c[2]) * d + c[3]
        fx, fy, fz = np.floor(px), np.floor(py), np.floor(pz)
        keys[col] = pack_key(
            np.int64(fx) - origin[0], np.int64(fy) - origin[1], np.int64(fz) - origin[2]
        )
        inside[0, col] = px - fx
        inside[1, col] = py - fy
        inside[2, col] = pz - fz


@kernel
def _row_colors(
    rgb: NDArray[np.uint8], pixels: NDArray[np.float32], row: int, colors: NDArray[np.float32]
) -> None:
    """Colour (3, W) of one row's pixels; `pixels` (W, 2) is (0, 2) where depth is registered."""
    for col in range(colors.shape[1]):
        i, j = row, col
        if pixels.shape[0] > 0:
            j, i = int(pixels[col, 0] + np.float32(0.5)), int(pixels[col, 1] + np.float32(0.5))
        colors[0, col] = rgb[i, j, 0]
        colors[1, col] = rgb[i, j, 1]
        colors[2, col] = rgb[i, j, 2]


@kernel
def _place(pixel: np.float32, per_pixel: np.float32, patches: int) -> np.float32:
    # Patch j covers pixels [j size / patches, (j + 1) size / patches): its centre is at j + 0.5.
    position = (pixel + np.float32(0.5)) * per_pixel - np.float32(0.5)
    return min(max(position, np.float32(0.0)), np.float32(patches - 1))


@kernel
def _row_cells(
    pixels: NDArray[np.float32],
    row: int,
    grid: tuple[int, int],
    per_pixel: tuple[np.float32, np.float32],
    cells: NDArray[np.int32],
    within: NDArray[np.float32],
) -> None:
    """Cells (W,) of one row's pixels, -1 where there is no colour, and (2, W) where in them."""
    rows, cols = grid
    last_row, last_col = max(rows - 2, 0), max(cols - 2, 0)
    for col in range(cells.size):
        u, v = np.float32(col), np.float32(row)
        if pixels.shape[0] > 0:
            u, v = pixels[col, 0], pixels[col, 1]
        x, y = _place(u, per_pixel[1], cols), _place(v, per_pixel[0], rows)
        j, i = int(x), int(y)
        j, i = j if j < last_col else last_col, i if i < last_row else last_row
        within[0, col] = x - np.float32(j)
        within[1, col] = y - np.float32(i)
        cells[col] = i * cols + j if u >= 0 else -1


@kernel
def _row_runs(
    keys: NDArray[np.int64],
    cells: NDArray[np.int32],
    weights: NDArray[np.float32],
    inside: NDArray[np.float32],
    colors: NDArray[np.float32],
    within: NDArray[np.float32],
    run_keys: NDArray[np.int64],
    run_cells: NDArray[np.int32],
    run_sums: NDArray[np.float32],
) -> int:
    """Sums (R, 13) of neighbouring pixels that share voxel and cell; returns R.

    The first nine are a voxel's columns, the other four the weights of the cell's patches.
    """
    zero, one = np.float32(0.0), np.float32(1.0)
    col = runs = 0
    while col < keys.size:
        key, cell, first = keys[col], cells[col], col
        weight = x = y = z = red = green = blue = w0 = w1 = w2 = w3 = zero
        while col < keys.size and keys[col] == key and cells[col] == cell:
            w = weights[col]
            weight += w
            x += w * inside[0, col]
            y += w * inside[1, col]
            z += w * inside[2, col]
            red += w * colors[0, col]
            green += w * colors[1, col]
            blue += w * colors[2, col]
            a, lower = within[0, col], w * within[1, col]
            upper = w - lower
            w0 += upper * (one - a)
            w1 += upper * a
            w2 += lower * (one - a)
            w3 += lower * a
            col += 1
        if key < 0:
            continue
        seen = one if cell >= 0 else zero
        run_keys[runs], run_cells[runs] = key, cell
        run_sums[runs, WEIGHT] = weight
        run_sums[runs, X] = x
        run_sums[runs, Y] = y
        run_sums[runs, Z] = z
        run_sums[runs, COLOR_WEIGHT] = seen * weight
        run_sums[runs, RED] = seen * red
        run_sums[runs, GREEN] = seen * green
        run_sums[runs, BLUE] = seen * blue
        run_sums[runs, COUNT] = col - first
        run_sums[runs, CORNERS] = w0
        run_sums[runs, CORNERS + 1] = w1
        run_sums[runs, CORNERS + 2] = w2
        run_sums[runs, CORNERS + 3] = w3
        runs += 1
    return runs


@kernel
def _run_voxels(
    run_keys: NDArray[np.int64],
    runs: int,
    size: int,
    slots: NDArray[np.int32],
    keys: NDArray[np.int64],
    sums: NDArray[np.float32],
    head: NDArray[np.int32],
    voxels: NDArray[np.int32],
) -> int:
    """The band's voxel of each run, new ones cleared; returns the band's number of voxels."""
    mask = slots.size - 1
    for run in range(runs):
        key = run_keys[run]
        slot = slot_of(key, mask)
        while slots[slot] != EMPTY and keys[slots[slot]] != key:
            slot = (slot + 1) & mask
        if slots[slot] == EMPTY:
            slots[slot] = size
            keys[size] = key
            for column in range(CORNERS):
                sums[size, column] = 0.0
            head[size] = -1
            size += 1
        voxels[run] = slots[slot]
    return size


@kernel
def _add_runs(
    runs: int,
    voxels: NDArray[np.int32],
    run_sums: NDArray[np.float32],
    sums: NDArray[np.float32],
) -> int:
    """Add runs to their voxels; returns how many pixels they were."""
    pixels = 0
    for run in range(runs):
        voxel = voxels[run]
        for column in range(CORNERS):
            sums[voxel, column] += run_sums[run, column]
        pixels += int(run_sums[run, COUNT])
    return pixels


@kernel
def _add_cells(
    runs: int,
    voxels: NDArray[np.int32],
    run_cells: NDArray[np.int32],
    run_sums: NDArray[np.float32],
    used: int,
    head: NDArray[np.int32],
    cells: NDArray[np.int32],
    cell_next: NDArray[np.int32],
    cell_weights: NDArray[np.float32],
) -> int:
    """Add runs to their voxels' lists of cells; returns the number of list entries in use."""
    for run in range(runs):
        voxel, cell = voxels[run], run_cells[run]
        if cell < 0:
            continue
        entry = head[voxel]
        while entry >= 0 and cells[entry] != cell:
            entry = cell_next[entry]
        if entry < 0:
            entry = used
            cells[entry] = cell
            cell_next[entry] = head[voxel]
            for corner in range(4):
                cell_weights[entry, corner] = 0.0
            head[voxel] = entry
            used += 1
        for corner in range(4):
            cell_weights[entry, corner] += run_sums[run, CORNERS + corner]
    return used


@kernel
def _scan_rows(
    depth_m: NDArray[np.float32],
    rays: NDArray[np.float32],
    rgb: NDArray[np.uint8],
    color_pixels: NDArray[np.float32],
    pose: NDArray[np.float64],
    numbers: NDArray[np.float64],
    origin: NDArray[np.int64],
    patch_rows: int,
    patch_cols: int,
    start: int,
    stop: int,
    slots: NDArray[np.int32],
    keys: NDArray[np.int64],
    sums: NDArray[np.float32],
    head: NDArray[np.int32],
    cells: NDArray[np.int32],
    cell_next: NDArray[np.int32],
    cell_weights: NDArray[np.float32],
) -> tuple[int, int]:
    # Helpers take whole rows: a call counts references to its arrays, atomically, which costs more
    # than the work on one pixel.
    columns = depth_m.shape[1]
    grid = (max(patch_rows, 1), max(patch_cols, 1))
    per_pixel = (np.float32(grid[0] / rgb.shape[0]), np.float32(grid[1] / rgb.shape[1]))
    weights = np.empty(columns, dtype=np.float32)
    row_keys = np.empty(columns, dtype=np.int64)
    inside = np.empty((3, columns), dtype=np.float32)
    colors = np.empty((3, columns), dtype=np.float32)
    row_cells = np.empty(columns, dtype=np.int32)
    within = np.empty((2, columns), dtype=np.float32)
    run_keys = np.empty(columns, dtype=np.int64)
    run_cells = np.empty(columns, dtype=np.int32)
    run_sums = np.empty((columns, CORNERS + 4), dtype=np.float32)
    voxels = np.empty(columns, dtype=np.int32)
    size = used = pixels = 0
    for row in range(start, stop):
        row_pixels = color_pixels[row] if color_pixels.shape[0] > 0 else color_pixels[:, 0]
        _row_weights(depth_m, row, numbers, weights)
        _row_keys(
            depth_m[row], rays[row], pose, 1.0 / numbers[0], origin, weights, row_keys, inside
        )
        _row_colors(rgb, row_pixels, row, colors)
        _row_cells(row_pixels, row, grid, per_pixel, row_cells, within)
        runs = _row_runs(
            row_keys, row_cells, weights, inside, colors, within, run_keys, run_cells, run_sums
        )
        size = _run_voxels(run_keys, runs, size, slots, keys, sums, head, voxels)
        pixels += _add_runs(runs, voxels, run_sums, sums)
        if patch_rows > 0:
            used = _add_cells(
                runs, voxels, run_cells, run_sums, used, head, cells, cell_next, cell_weights
            )
    return size, pixels


@kernel
def group_by_chunk(
    rows: NDArray[np.int32], chunks: int
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Positions of rows ordered by their chunk, and where each chunk's begin (chunks + 1)."""
    starts = np.zeros(chunks + 1, dtype=np.int64)
    for row in rows:
        starts[(row >> CHUNK_SHIFT) + 1] += 1
    for chunk in range(chunks):
        starts[chunk + 1] += starts[chunk]
    at = starts[:-1].copy()
    order = np.empty(rows.size, dtype=np.int32)
    for i in range(rows.size):
        chunk = rows[i] >> CHUNK_SHIFT
        order[at[chunk]] = i
        at[chunk] += 1
    return order, starts


def add_band(
    chunk: Chunk,
    band: Band,
    rows: NDArray[np.int32],
    order: NDArray[np.int32],
    patches: NDArray[np.float32],
    patch_cols: int,
    stamp_ns: int,
    max_weight: float,
    worker: int,
    workers: int,
) -> None:
    """Add a band's voxels to their rows of one chunk.

    Args:
        chunk: The chunk, writable.
        band: The sums.
        rows: (band.size,) rows of the band's voxels in the whole map.
        order: Those voxels of the band that are in this chunk.
        patches: (patch_rows * patch_cols, D) float32 features; (0, D) for none.
        patch_cols: Columns of the patch grid.
        stamp_ns: The frame's stamp.
        max_weight: Cap of weights; 0 for none.
        worker: Rows are dealt out among workers in blocks of 16; this one's number.
        workers: Number of workers.
    """
    _add_scalars(
        chunk.offset,
        chunk.weight,
        chunk.color,
        chunk.color_weight,
        chunk.count,
        chunk.misses,
        chunk.first_seen,
        chunk.last_seen,
        band.sums,
        rows,
        order,
        stamp_ns,
        max_weight,
        worker,
        workers,
    )
    if len(patches):
        _add_features(
            chunk.features,
            chunk.feature_weight,
            band.sums,
            band.head,
            band.cells,
            band.cell_next,
            band.cell_weights,
            rows,
            order,
            patches,
            patch_cols,
            max_weight,
            worker,
            workers,
        )


@kernel
def _add_scalars(
    offset: NDArray[np.float32],
    weight: NDArray[np.float32],
    color: NDArray[np.float32],
    color_weight: NDArray[np.float32],
    count: NDArray[np.int32],
    misses: NDArray[np.uint8],
    first_seen: NDArray[np.int64],
    last_seen: NDArray[np.int64],
    sums: NDArray[np.float32],
    rows: NDArray[np.int32],
    order: NDArray[np.int32],
    stamp_ns: int,
    max_weight: float,
    worker: int,
    workers: int,
) -> None:
    for voxel in order:
        if (rows[voxel] >> 4) % workers != worker:
            continue
        row = rows[voxel] & (CHUNK_ROWS - 1)
        s = sums[voxel]
        total = weight[row] + s[WEIGHT]
        for axis in range(3):
            offset[row, axis] = (offset[row, axis] * weight[row] + s[X + axis]) / total
        weight[row] = total
        if s[COLOR_WEIGHT] > 0.0:
            total = color_weight[row] + s[COLOR_WEIGHT]
            for band in range(3):
                color[row, band] = (color[row, band] * color_weight[row] + s[RED + band]) / total
            color_weight[row] = total
        if max_weight > 0.0:
            weight[row] = min(weight[row], max_weight)
            color_weight[row] = min(color_weight[row], max_weight)
        count[row] += int(s[COUNT])
        misses[row] = 0
        first_seen[row] = min(first_seen[row], stamp_ns)
        last_seen[row] = max(last_seen[row], stamp_ns)


@kernel
def _add_features(
    features: NDArray[np.float32],
    feature_weight: NDArray[np.float32],
    sums: NDArray[np.float32],
    head: NDArray[np.int32],
    cells: NDArray[np.int32],
    cell_next: NDArray[np.int32],
    cell_weights: NDArray[np.float32],
    rows: NDArray[np.int32],
    order: NDArray[np.int32],
    patches: NDArray[np.float32],
    patch_cols: int,
    max_weight: float,
    worker: int,
    workers: int,
) -> None:
    last = patches.shape[0] - 1
    right = 1 if patch_cols > 1 else 0
    for voxel in order:
        if (rows[voxel] >> 4) % workers != worker or head[voxel] < 0:
            continue
        row = rows[voxel] & (CHUNK_ROWS - 1)
        entry = head[voxel]
        while entry >= 0:
            # At a grid of one row or column the far patches have weight 0; any index will do.
            cell = cells[entry]
            below = min(cell + patch_cols, last)
            beside, across = min(cell + right, last), min(below + right, last)
            w0, w1 = cell_weights[entry, 0], cell_weights[entry, 1]
            w2, w3 = cell_weights[entry, 2], cell_weights[entry, 3]
            for d in range(features.shape[1]):
                upper = w0 * patches[cell, d] + w1 * patches[beside, d]
                lower = w2 * patches[below, d] + w3 * patches[across, d]
                features[row, d] += upper + lower
            entry = cell_next[entry]
        total = feature_weight[row] + sums[voxel, COLOR_WEIGHT]
        if 0.0 < max_weight < total:
            for d in range(features.shape[1]):
                features[row, d] *= max_weight / total
            total = max_weight
        feature_weight[row] = total
