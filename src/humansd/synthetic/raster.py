"""The z-buffer: triangles to per-pixel triangle ids, then ids to the painter's layers. Single-threaded numba."""

from __future__ import annotations

import numpy as np

from humansd.synthetic.jit import kernel

# Surface kinds: how `shade_pixels` finds the colour of a point.
PLAIN, FACE, CLOTH, HAIRS, SHOE = range(5)


@kernel
def rasterise(screen, cut, triangles, size):
    """Nearest triangle of every pixel.

    screen (n,3): pixel x, pixel y, 1/depth; cut (n,): pixels where the interpolated value is negative are left
    out; triangles (t,3). Returns ids (size,size) int32 (-1 none), barycentric weights of the second and third
    corner (size,size,2), depth (size,size), inf where nothing is.
    """
    ids = np.full((size, size), -1, np.int32)
    weights = np.zeros((size, size, 2), np.float32)
    near = np.zeros((size, size), np.float32)
    for t in range(len(triangles)):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        ca, cb, cc = cut[a], cut[b], cut[c]
        if ca < 0 and cb < 0 and cc < 0:
            continue
        za, zb, zc = screen[a, 2], screen[b, 2], screen[c, 2]
        if za <= 0 or zb <= 0 or zc <= 0:
            continue
        ax, ay, bx, by = screen[a, 0], screen[a, 1], screen[b, 0], screen[b, 1]
        cx, cy = screen[c, 0], screen[c, 1]
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if area == 0:
            continue
        x0 = max(0, int(np.ceil(min(ax, bx, cx))))
        x1 = min(size - 1, int(np.floor(max(ax, bx, cx))))
        y0 = max(0, int(np.ceil(min(ay, by, cy))))
        y1 = min(size - 1, int(np.floor(max(ay, by, cy))))
        if x0 > x1 or y0 > y1:
            continue
        inverse = np.float32(1.0) / area
        w1x, w1y = (cy - ay) * inverse, (ax - cx) * inverse
        w2x, w2y = (ay - by) * inverse, (bx - ax) * inverse
        partly = ca < 0 or cb < 0 or cc < 0
        for y in range(y0, y1 + 1):
            w1 = (x0 - ax) * w1x + (y - ay) * w1y
            w2 = (x0 - ax) * w2x + (y - ay) * w2y
            for x in range(x0, x1 + 1):
                if w1 >= 0 and w2 >= 0 and w1 + w2 <= 1:
                    z = za + w1 * (zb - za) + w2 * (zc - za)
                    if z > near[y, x] and (not partly or ca + w1 * (cb - ca) + w2 * (cc - ca) >= 0):
                        near[y, x] = z
                        ids[y, x] = t
                        weights[y, x, 0] = w1
                        weights[y, x, 1] = w2
                w1 += w1x
                w2 += w2x
    depth = np.full((size, size), np.inf, np.float32)
    for y in range(size):
        for x in range(size):
            if near[y, x] > 0:
                depth[y, x] = 1 / near[y, x]
    return ids, weights, depth


@kernel
def project_points(points, bias, view):
    """Screen x, y and 1/depth (n,3) of world points; view: camera height, pitch, focal length, cx, cy."""
    out = np.empty_like(points)
    c, s = np.float32(np.cos(view[1])), np.float32(np.sin(view[1]))
    height, focal = np.float32(view[0]), np.float32(view[2])
    cx, cy = np.float32(view[3]), np.float32(view[4])
    for i in range(len(points)):
        y, z = points[i, 1] - height, points[i, 2]
        depth = -(s * y + c * z)
        inverse = np.float32(1) / max(depth, np.float32(0.05))
        out[i, 0] = cx + focal * points[i, 0] * inverse
        out[i, 1] = cy - focal * (c * y - s * z) * inverse
        out[i, 2] = np.float32(1) / max(depth - bias[i], np.float32(0.05))
    return out


@kernel
def bounds(points, cut):
    """Smallest and largest coordinates (3,), (3,) of the points whose cut is not negative."""
    low, high = np.full(3, np.inf, np.float32), np.full(3, -np.inf, np.float32)
    for i in range(len(points)):
        if cut[i] >= 0:
            for k in range(3):
                low[k] = min(low[k], points[i, k])
                high[k] = max(high[k], points[i, k])
    return low, high


@kernel
def fill_mask(screen, cut, triangles, mask):
    """Set the pixels of `mask` (size,size) under any uncut triangle to 1; `screen` (n,3) as in `rasterise`."""
    size = len(mask)
    for t in range(len(triangles)):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        if cut[a] < 0 and cut[b] < 0 and cut[c] < 0:
            continue
        if screen[a, 2] <= 0 or screen[b, 2] <= 0 or screen[c, 2] <= 0:
            continue
        ax, ay, bx, by = screen[a, 0], screen[a, 1], screen[b, 0], screen[b, 1]
        cx, cy = screen[c, 0], screen[c, 1]
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        x0 = max(0, int(np.ceil(min(ax, bx, cx))))
        x1 = min(size - 1, int(np.floor(max(ax, bx, cx))))
        y0 = max(0, int(np.ceil(min(ay, by, cy))))
        y1 = min(size - 1, int(np.floor(max(ay, by, cy))))
        if area == 0 or x0 > x1 or y0 > y1:
            continue
        inverse = np.float32(1.0) / area
        for y in range(y0, y1 + 1):
            for x in range(x0, x1 + 1):
                w1 = ((x - ax) * (cy - ay) - (y - ay) * (cx - ax)) * inverse
                w2 = ((y - ay) * (bx - ax) - (x - ax) * (by - ay)) * inverse
                if w1 >= -0.01 and w2 >= -0.01 and w1 + w2 <= 1.01:
                    mask[y, x] = 1


@kernel
def _hash(i, j, k):
    h = (i * 374761393 + j * 668265263 + k * 974634777) & 0x7FFFFFFF
    h = ((h ^ (h >> 13)) * 1274126177) & 0x7FFFFFFF
    return ((h ^ (h >> 16)) & 0xFFFF) / 65535.0


@kernel
def _noise(x, y, z):
    """Smooth value noise in 0..1."""
    i, j, k = int(np.floor(x)), int(np.floor(y)), int(np.floor(z))
    u, v, w = x - i, y - j, z - k
    u, v, w = u * u * (3 - 2 * u), v * v * (3 - 2 * v), w * w * (3 - 2 * w)
    low = (_hash(i, j, k) * (1 - u) + _hash(i + 1, j, k) * u) * (1 - v)
    low += (_hash(i, j + 1, k) * (1 - u) + _hash(i + 1, j + 1, k) * u) * v
    high = (_hash(i, j, k + 1) * (1 - u) + _hash(i + 1, j, k + 1) * u) * (1 - v)
    high += (_hash(i, j + 1, k + 1) * (1 - u) + _hash(i + 1, j + 1, k + 1) * u) * v
    return low * (1 - w) + high * w


@kernel
def _slope(x, y, z):
    """The derivatives of `_noise` by x and by y."""
    i, j, k = int(np.floor(x)), int(np.floor(y)), int(np.floor(z))
    u, v, w = x - i, y - j, z - k
    du, dv = 6 * u * (1 - u), 6 * v * (1 - v)
    u, v, w = u * u * (3 - 2 * u), v * v * (3 - 2 * v), w * w * (3 - 2 * w)
    a = _hash(i, j, k) * (1 - w) + _hash(i, j, k + 1) * w
    b = _hash(i + 1, j, k) * (1 - w) + _hash(i + 1, j, k + 1) * w
    c = _hash(i, j + 1, k) * (1 - w) + _hash(i, j + 1, k + 1) * w
    d = _hash(i + 1, j + 1, k) * (1 - w) + _hash(i + 1, j + 1, k + 1) * w
    return du * ((b - a) * (1 - v) + (d - c) * v), dv * ((c - a) * (1 - u) + (d - b) * u)


@kernel
def _second_color(pattern, u, y, pitch):
    """Share of the pattern's second colour at rest coordinates u (around) and y (up); `pitch` metres."""
    if pattern == 1:
        return 1.0 if (y / pitch) % 1.0 < 0.42 else 0.0
    if pattern == 2:
        return 0.5 * (((y / pitch) % 1.0 < 0.4) * 1.0 + ((u / pitch) % 1.0 < 0.4) * 1.0)
    if pattern == 3:
        row = np.floor(y / pitch)
        du = ((u / pitch + 0.5 * (row % 2)) % 1.0) - 0.5
        dv = (y / pitch - row) - 0.5
        return 1.0 if du * du + dv * dv < 0.075 else 0.0
    return 0.0


@kernel
def shade_pixels(ids, weights, triangles, layer_of, normals, paint, across, layers, face, light, up, size):
    """Albedo, shade, normal, person and material of every pixel.

    layer_of (t,) layer of each triangle; normals (n,3) camera space; paint (n,3) rest coordinates; across (n,2)
    coordinates around and along the body for patterns; layers (l,16): kind, person, material, colour 3:6, second
    colour 6:9, pattern, pitch, roughness, iris 12:15, placket; face (6,3): see
    `heads.face_marks`.
    """
    albedo = np.zeros((size, size, 3), np.float32)
    shade = np.zeros((size, size), np.float32)
    normal = np.zeros((size, size, 3), np.float32)
    person = np.zeros((size, size), np.uint8)
    material = np.zeros((size, size), np.uint8)
    for y in range(size):
        for x in range(size):
            t = ids[y, x]
            if t < 0:
                continue
            a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
            w1, w2 = weights[y, x, 0], weights[y, x, 1]
            w0 = 1 - w1 - w2
            nx = w0 * normals[a, 0] + w1 * normals[b, 0] + w2 * normals[c, 0]
            ny = w0 * normals[a, 1] + w1 * normals[b, 1] + w2 * normals[c, 1]
            nz = w0 * normals[a, 2] + w1 * normals[b, 2] + w2 * normals[c, 2]
            px = w0 * paint[a, 0] + w1 * paint[b, 0] + w2 * paint[c, 0]
            py = w0 * paint[a, 1] + w1 * paint[b, 1] + w2 * paint[c, 1]
            pz = w0 * paint[a, 2] + w1 * paint[b, 2] + w2 * paint[c, 2]
            inner = nz < -0.15 and layers[layer_of[t], 0] == CLOTH  # the lining of a hem or a sleeve
            if nz < 0:
                nx, ny, nz = -nx, -ny, -nz
            layer = layers[layer_of[t]]
            kind = int(layer[0])
            code = layer[2]
            red, green, blue = layer[3], layer[4], layer[5]
            bump = layer[11]
            if bump > 0:
                scale = 26.0 if kind == CLOTH else 95.0
                lengthwise = 0.45 if kind == CLOTH else 0.25
                fx, fy, fz = px * scale + 31, py * scale * lengthwise + 31, pz * scale + 31
                sx, sy = _slope(fx, fy, fz)
                nx += bump * sx * 0.70
                ny += bump * sy * 0.70
            length = np.sqrt(nx * nx + ny * ny + nz * nz) + 1e-9
            nx, ny, nz = nx / length, ny / length, nz / length
            if kind == CLOTH:
                u = w0 * across[a, 0] + w1 * across[b, 0] + w2 * across[c, 0]
                v = w0 * across[a, 1] + w1 * across[b, 1] + w2 * across[c, 1]
                mix = _second_color(int(layer[9]), u, v, layer[10])
                red += mix * (layer[6] - red)
                green += mix * (layer[7] - green)
                blue += mix * (layer[8] - blue)
                if layer[15] > 0 and abs(px) < 0.007 and pz > 0:
                    red, green, blue = red * 0.7, green * 0.7, blue * 0.7
            elif kind == HAIRS:
                strand = 0.82 + 0.36 * _noise(px * 160, py * 30, pz * 160)
                red, green, blue = red * strand, green * strand, blue * strand
            elif kind == SHOE and py < 0.022:
                red, green, blue = layer[6], layer[7], layer[8]
            elif kind == FACE:
                mark = _face_mark(px, py, pz, face)
                if mark == 1:
                    code, red, green, blue = 3.0, 0.93, 0.92, 0.90
                elif mark == 2:
                    code, red, green, blue = 3.0, layer[12], layer[13], layer[14]
                elif mark == 3:
                    red, green, blue = layer[6], layer[7], layer[8]
                elif mark == 4:
                    code, red, green, blue = 4.0, red * 0.78, green * 0.5, blue * 0.5
            lambert = max(0.0, nx * light[0] + ny * light[1] + nz * light[2])
            sky = 0.5 + 0.5 * (nx * up[0] + ny * up[1] + nz * up[2])
            value = 0.36 + 0.24 * sky + 0.62 * lambert
            if inner:
                value *= 0.55
            albedo[y, x, 0], albedo[y, x, 1], albedo[y, x, 2] = min(1.0, red), min(1.0, green), min(1.0, blue)
            shade[y, x] = min(1.25, max(0.25, value))
            normal[y, x, 0], normal[y, x, 1], normal[y, x, 2] = nx, ny, nz
            person[y, x] = np.uint8(layer[1])
            material[y, x] = np.uint8(code)
    return albedo, shade, normal, person, material


@kernel
def _face_mark(x, y, z, face):
    """0 skin, 1 white of an eye, 2 iris, 3 brow, 4 lips; `face` rows: eye (x >= 0), brow, mouth, half sizes."""
    if z < face[5, 2]:
        return 0
    ax = abs(x)
    dx, dy = (ax - face[0, 0]) / face[3, 0], (y - face[0, 1]) / face[3, 1]
    if dx * dx + dy * dy < 1:
        ix, iy = (ax - face[0, 0]) / face[3, 2], (y - face[0, 1]) / face[3, 2]
        return 2 if ix * ix + iy * iy < 1 else 1
    dx = (ax - face[1, 0]) / face[4, 0]
    dy = (y - face[1, 1] + 0.002 * dx * dx) / face[4, 1]
    if dx * dx + dy * dy < 1:
        return 3
    dx, dy = x / face[5, 0], (y - face[2, 1]) / face[5, 1]
    if dx * dx + dy * dy < 1:
        return 4
    return 0
