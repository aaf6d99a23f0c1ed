import pytest

from vlm_nodes.simulation.shapes import SIZE_RANGE_M, bounds, lathe, parts
from vlm_nodes.simulation.vocabulary import KINDS


@pytest.mark.parametrize('kind', KINDS)
def test_every_kind_has_a_chunky_shape_of_unit_size_on_the_floor(kind):
    low, high = bounds(kind)
    size = high - low
    assert low[2] == pytest.approx(0.0, abs=0.01)
    assert 0.9 <= size.max() <= 1.25
    assert size.min() >= 0.25
    assert 0.2 <= SIZE_RANGE_M[kind][0] < SIZE_RANGE_M[kind][1] <= 0.7
    assert any(part.tint == 'main' for part in parts(kind))


def test_meshes_are_closed():
    meshes = [part.mesh for kind in KINDS for part in parts(kind) if part.mesh is not None]
    assert meshes
    for mesh in meshes:
        edges = {(face[i], face[(i + 1) % 3]) for face in mesh.faces for i in range(3)}
        assert len(edges) == 3 * len(mesh.faces), f'{mesh.name}: a face is there twice'
        assert {(b, a) for a, b in edges} == edges, f'{mesh.name} has a hole'


def test_lathe_refuses_an_open_profile():
    with pytest.raises(ValueError, match='radius 0'):
        lathe('tube', ((0.1, 0.0), (0.1, 1.0)))
