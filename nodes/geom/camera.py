"""Cameras: the projection of points in a room to pixels, as OpenCV models it.

The model is that of OpenCV's documentation, "Camera Calibration and 3D Reconstruction": a rotation and a translation into the
camera's frame, division by the depth, radial and tangential distortion, that of a thin prism and of a tilted sensor (k1, k2,
p1, p2[, k3[, k4, k5, k6[, s1, s2, s3, s4[, tx, ty]]]]), the camera matrix.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sisock.errors import InvalidArgument
from sisock.nodes.geom.shapes import Pixels

_COEFFICIENTS = (0, 4, 5, 8, 12, 14)


@dataclass(frozen=True, slots=True, eq=False)
class Camera:
    """A calibrated camera. Its parameters bear OpenCV's names; `rvec` and `tvec` bring the room into its frame."""

    device_id: str
    camera_matrix: npt.NDArray[np.float64]
    dist_coeffs: npt.NDArray[np.float64]
    rvec: npt.NDArray[np.float64]
    tvec: npt.NDArray[np.float64]
    width: int
    height: int
    name: str = ""

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> Camera:
        """The camera that a file describes; InvalidArgument says what is missing or wrong."""
        known = {"device_id", "camera_matrix", "dist_coeffs", "rvec", "tvec", "width", "height"}
        missing = sorted(known - {"dist_coeffs"} - set(told))
        if missing:
            raise InvalidArgument(f"a camera lacks {', '.join(missing)}; it has {', '.join(sorted(known))}")
        device = told["device_id"]
        if isinstance(device, int) and not isinstance(device, bool):
            device = str(device)
        if not isinstance(device, str) or not 1 <= len(device) <= 100 or not device.isprintable():
            raise InvalidArgument("a camera's device_id is a text of 1 to 100 characters")
        size = [_numbers(device, name, told[name], 1).item() for name in ("width", "height")]
        if not all(1 <= one <= 100_000 and one == int(one) for one in size):
            raise InvalidArgument(f"camera {device}: width and height are whole numbers of pixels")
        coefficients = _numbers(device, "dist_coeffs", told.get("dist_coeffs") or [])
        if len(coefficients) not in _COEFFICIENTS:
            raise InvalidArgument(f"camera {device}: dist_coeffs are 0, 4, 5, 8, 12 or 14 numbers, not {len(coefficients)}")
        return cls(
            device,
            _numbers(device, "camera_matrix", told["camera_matrix"], 9).reshape(3, 3),
            np.concatenate([coefficients, np.zeros(14 - len(coefficients))]),
            _numbers(device, "rvec", told["rvec"], 3),
            _numbers(device, "tvec", told["tvec"], 3),
            int(size[0]),
            int(size[1]),
            str(told.get("name") or device),
        )

    def project(self, points: npt.NDArray[np.float64]) -> Pixels:
        """Pixels of points (..., 3) in metres; NaN for those behind the camera."""
        return self._projected(*self._flattened(points))

    def _flattened(self, points: npt.NDArray[np.float64]) -> tuple[Pixels, Pixels]:
        """Where points are seen by a camera without a lens, at the depth 1; NaN for those behind it."""
        axes = points @ rotation(self.rvec).T
        axes += self.tvec
        depth = axes[..., 2]
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            scale = np.where(depth > 0, 1 / depth, np.nan)
            return axes[..., 0] * scale, axes[..., 1] * scale

    def _projected(self, x: Pixels, y: Pixels) -> Pixels:
        (fx, _, cx), (_, fy, cy) = self.camera_matrix[0], self.camera_matrix[1]
        pixels = np.empty((*x.shape, 2))
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            bent_x, bent_y = self._distorted(x, y)
            np.multiply(bent_x, fx, out=pixels[..., 0])
            np.multiply(bent_y, fy, out=pixels[..., 1])
            pixels += (cx, cy)
        return pixels

    def _distorted(self, x: Pixels, y: Pixels) -> tuple[Pixels, Pixels]:
        k1, k2, p1, p2, k3, k4, k5, k6, s1, s2, s3, s4, tilt_x, tilt_y = self.dist_coeffs.tolist()
        if not self.dist_coeffs.any():
            return x, y
        xx, yy, xy = x * x, y * y, x * y
        r2 = xx + yy
        radial = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
        if k4 or k5 or k6:
            radial /= 1 + r2 * (k4 + r2 * (k5 + r2 * k6))
        bent_x = x * radial + 2 * p1 * xy + p2 * (r2 + 2 * xx)
        bent_y = y * radial + p1 * (r2 + 2 * yy) + 2 * p2 * xy
        if s1 or s2 or s3 or s4:
            bent_x += r2 * (s1 + r2 * s2)
            bent_y += r2 * (s3 + r2 * s4)
        if tilt_x or tilt_y:
            (a, b, c), (d, e, f), (g, h, i) = tilted(tilt_x, tilt_y).tolist()
            scale = 1 / (g * bent_x + h * bent_y + i)
            bent_x, bent_y = (a * bent_x + b * bent_y + c) * scale, (d * bent_x + e * bent_y + f) * scale
        return bent_x, bent_y

    def seen(self, points: npt.NDArray[np.float64]) -> Pixels:
        """Pixels of points (..., 3); NaN for those behind the camera or out of the frame.

        Beyond some radius the distortion turns back, and the model puts what is far outside into the frame once more: there
        nothing is seen.
        """
        x, y = self._flattened(points)
        pixels = self._projected(x, y)
        with np.errstate(invalid="ignore", over="ignore"):
            u, v = pixels[..., 0], pixels[..., 1]
            inside = (u >= 0) & (u < self.width) & (v >= 0) & (v < self.height)
            inside &= x * x + y * y < self.fold()
        pixels[~inside] = np.nan
        return pixels

    def fold(self) -> float:
        """The square of the undistorted radius from which on the distortion folds back; infinity if it does not."""
        k1, k2, _, _, k3, k4, k5, k6, *_ = self.dist_coeffs.tolist()
        r2 = np.geomspace(1e-4, 1e4, 4001)
        radius = np.sqrt(r2) * (1 + r2 * (k1 + r2 * (k2 + r2 * k3))) / (1 + r2 * (k4 + r2 * (k5 + r2 * k6)))
        falls = np.flatnonzero(np.diff(radius) <= 0)
        return float(r2[falls[0]]) if len(falls) else np.inf


def rotation(rvec: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The matrix of a rotation vector, by Rodrigues' formula."""
    angle = float(np.sqrt((rvec * rvec).sum()))
    if angle < np.finfo(np.float64).eps:
        return np.eye(3)
    x, y, z = (rvec / angle).tolist()
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    axis = np.array([x, y, z])
    turned: npt.NDArray[np.float64] = (
        np.cos(angle) * np.eye(3) + (1 - np.cos(angle)) * np.outer(axis, axis) + np.sin(angle) * cross
    )
    return turned


def tilted(x: float, y: float) -> npt.NDArray[np.float64]:
    """What a sensor that is tilted by these angles does to the plane of the picture, as OpenCV's documentation has it."""
    about_x = np.array([[1, 0, 0], [0, np.cos(x), np.sin(x)], [0, -np.sin(x), np.cos(x)]])
    about_y = np.array([[np.cos(y), 0, -np.sin(y)], [0, 1, 0], [np.sin(y), 0, np.cos(y)]])
    turned = about_y @ about_x
    flattened = np.array([[turned[2, 2], 0, -turned[0, 2]], [0, turned[2, 2], -turned[1, 2]], [0, 0, 1]])
    plane: npt.NDArray[np.float64] = flattened @ turned
    return plane


def _numbers(device: str, name: str, told: Any, count: int | None = None) -> npt.NDArray[np.float64]:
    try:
        if isinstance(told, str):
            # Of a CSV file: as JSON has them, or with blanks between.
            told = [float(one) for one in re.split(r"[\s,;\[\]]+", told) if one]
        flat = np.asarray(told, np.float64).reshape(-1)
    except (TypeError, ValueError):
        raise InvalidArgument(f"camera {device}: {name} holds what is no number") from None
    if (count is not None and len(flat) != count) or not np.isfinite(flat).all():
        raise InvalidArgument(f"camera {device}: {name} is {count or 'a list of'} finite numbers")
    return flat


def cameras(told: Sequence[Mapping[str, Any]]) -> list[Camera]:
    """The cameras that a file lists; InvalidArgument where two have one device_id, or there is none."""
    found = [Camera.of(one) for one in told]
    if not found or len({camera.device_id for camera in found}) != len(found):
        raise InvalidArgument("there is no camera, or two of them have the same device_id")
    return found
