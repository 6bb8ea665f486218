"""The projection, held to OpenCV's own; and what a camera does not see."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sisock.errors import InvalidArgument
from sisock.nodes.geom.camera import Camera, cameras, rotation
from sisock.nodes.geom.generator import Room, rotation_vector

TOLD = {
    "device_id": "c",
    "camera_matrix": [[760.5, 0, 648.25], [0, 755.25, 480.75], [0, 0, 1]],
    "dist_coeffs": [],
    "rvec": [0.1, -0.2, 0.3],
    "tvec": [0.1, 0.2, 6.0],
    "width": 1296,
    "height": 972,
}
number = st.floats(-1, 1)
small = st.floats(-0.3, 0.3)


def opencv(camera, points, coefficients):
    pixels, _ = cv2.projectPoints(points, camera.rvec, camera.tvec, camera.camera_matrix, np.array(coefficients, float))
    return pixels.reshape(-1, 2)


@given(
    rvec=st.tuples(*[st.floats(-4, 4)] * 3),
    coefficients=st.sampled_from([0, 4, 5, 8, 12, 14]).flatmap(lambda n: st.lists(small, min_size=n, max_size=n)),
    points=st.lists(st.tuples(number, number, number), min_size=1, max_size=20),
    tvec=st.tuples(number, number, st.floats(4, 20)),
)
@settings(max_examples=300, deadline=None)
def test_it_agrees_with_opencv(rvec, coefficients, points, tvec):
    camera = Camera.of({**TOLD, "rvec": rvec, "tvec": tvec, "dist_coeffs": coefficients})
    at = np.array(points, float)
    expected = opencv(camera, at, coefficients)
    mine = camera.project(at)
    sane = np.abs(expected).max(axis=1) < 1e5
    assert np.abs(mine - expected)[sane].max(initial=0) < 1e-6


def test_a_room_agrees_with_opencv_wherever_a_camera_sees_it():
    chance = np.random.default_rng(7)
    points = chance.uniform((0, 0, 0), (12, 9, 3), (20_000, 3))
    for camera in Room(0, 0, 4, 0).cameras:
        seen = camera.seen(points)
        there = ~np.isnan(seen).any(axis=1)
        assert 0.1 < there.mean() < 1
        assert np.abs(seen[there] - opencv(camera, points[there], camera.dist_coeffs[:5])).max() < 1e-6


def test_what_is_behind_out_of_the_frame_or_folded_back_is_null():
    camera = Camera.of({**TOLD, "rvec": [0, 0, 0], "tvec": [0, 0, 0]})
    seen = camera.seen(
        np.array([[0, 0, 2.0], [0, 0, -2], [0, 0, 0], [50, 0, 2], [0, 50, 2], [np.nan, 0, 2], [1e300, 0, 1e-300]])
    )
    assert (~np.isnan(seen).any(axis=1)).tolist() == [True] + [False] * 6
    assert seen[0].tolist() == [648.25, 480.75]
    # The edges: the first pixel's is inside, that behind the last is not.
    matrix = camera.camera_matrix
    edge = np.array([[-matrix[0, 2] / matrix[0, 0], 0, 1], [(1296 - matrix[0, 2]) / matrix[0, 0], 0, 1]])
    assert np.isnan(camera.seen(edge)[:, 0]).tolist() == [False, True]
    barrel = Camera.of({**TOLD, "rvec": [0, 0, 0], "tvec": [0, 0, 0], "dist_coeffs": [-0.3, 0, 0, 0]})
    # At this radius the model puts a point from far outside into the middle of the frame.
    far = np.array([[1.8, 0, 1.0]])
    assert 0 < barrel.project(far)[0, 0] < 1296
    assert np.isnan(barrel.seen(far)).all()


@given(st.tuples(*[st.floats(-3, 3)] * 3))
@settings(max_examples=200, deadline=None)
def test_rotations_are_opencvs_and_go_both_ways(rvec):
    vector = np.array(rvec)
    matrix = rotation(vector)
    assert np.abs(matrix - cv2.Rodrigues(vector)[0]).max() < 1e-12
    assert np.abs(rotation(rotation_vector(matrix)) - matrix).max() < 1e-6


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"camera_matrix": [1, 2]}, "camera_matrix"),
        ({"camera_matrix": "x"}, "camera_matrix"),
        ({"rvec": [0, 0, float("nan")]}, "rvec"),
        ({"dist_coeffs": [1, 2, 3]}, "dist_coeffs"),
        ({"width": 0}, "width"),
        ({"device_id": ""}, "device_id"),
        ({"device_id": 1.5}, "device_id"),
        ({"device_id": True}, "device_id"),
        ({"height": 1.5}, "height"),
        ({"height": "tall"}, "height"),
    ],
)
def test_a_camera_that_is_none_is_refused(more, said):
    with pytest.raises(InvalidArgument, match=said):
        Camera.of({**TOLD, **more})


def test_a_camera_of_texts_is_that_of_numbers():
    texts = {**TOLD, "camera_matrix": "760.5 0 648.25; 0 755.25 480.75; 0 0 1", "rvec": "[0.1, -0.2, 0.3]", "tvec": "0.1,0.2,6"}
    one, other = Camera.of({**texts, "width": "1296", "height": "972.0", "dist_coeffs": ""}), Camera.of(TOLD)
    at = np.array([[0.5, 0.25, 1.0]])
    assert np.array_equal(one.seen(at), other.seen(at))
    assert (one.width, one.height) == (1296, 972)
    assert Camera.of({**TOLD, "device_id": 5}).device_id == "5"


def test_cameras_have_all_they_need_and_names_of_their_own():
    with pytest.raises(InvalidArgument, match="tvec"):
        Camera.of({name: value for name, value in TOLD.items() if name != "tvec"})
    with pytest.raises(InvalidArgument, match="same device_id"):
        cameras([TOLD, TOLD])
    with pytest.raises(InvalidArgument, match="no camera"):
        cameras([])
