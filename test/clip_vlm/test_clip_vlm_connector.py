import pytest
import torch
from small_clip_vlm import examples, small_config
from torch import nn

from vlm_nodes.clip_vlm.batches import Views, places_of
from vlm_nodes.clip_vlm.connector import ConnectorConfig
from vlm_nodes.clip_vlm.errors import ClipVlmError
from vlm_nodes.clip_vlm.losses import DistillWeights, caption_loss, distill_loss
from vlm_nodes.clip_vlm.model import make_connector
from vlm_nodes.clip_vlm.projectors import PROJECTIONS, join_neighbours


def see(connector, views):
    with torch.no_grad():
        return connector(views.features, views.cameras, views.present)


@pytest.mark.parametrize('projection', sorted(PROJECTIONS))
def test_any_number_of_views_becomes_tokens_and_padding_changes_nothing(projection):
    config = small_config(projection=projection, layers=2)
    connector = make_connector(config, 3).eval()
    samples = examples()
    together = see(connector, Views.of(samples))
    assert together.shape == (4, 3, config.tokens_per_view, 32)
    for number, sample in enumerate(samples):
        alone = see(connector, Views.of([sample]))
        count = len(sample[0])
        torch.testing.assert_close(together[number, :count], alone[0], atol=1e-5, rtol=1e-4)


def test_what_stands_in_for_a_missing_view_is_never_looked_at():
    connector = make_connector(small_config(), 3).eval()
    views = Views.of(examples())
    other = Views(
        views.features.masked_fill(~views.present[..., None, None], 1e3),
        views.cameras,
        views.present,
    )
    torch.testing.assert_close(
        see(connector, other)[views.present], see(connector, views)[views.present]
    )


def test_views_see_one_another_and_cameras_count():
    connector = make_connector(small_config(), 3).eval()
    features = torch.randn(1, 2, 8, 12)
    plain = see(connector, Views.of([((0, 1), features[0])]))
    changed = features.clone()
    changed[0, 1] += 1
    assert not torch.allclose(see(connector, Views.of([((0, 1), changed[0])]))[0, 0], plain[0, 0])
    assert not torch.allclose(see(connector, Views.of([((0, 2), features[0])])), plain)


def test_small_things_are_not_averaged_away():
    """Tokens differ where two views have the same mean and another pattern."""
    connector = make_connector(small_config(), 3).eval()
    even = torch.zeros(1, 8, 12)
    spot = even.clone()
    spot[0, 0], spot[0, 1] = 3.0, -3.0
    one, two = (see(connector, Views.of([((0,), features)])) for features in (even, spot))
    assert (one - two).abs().max() > 1e-2


def test_what_all_of_clips_tokens_share_is_taken_out():
    connector = make_connector(small_config(), 3).eval()
    shared, apart = torch.randn(12) * 50, torch.randn(200, 12) * 0.01
    connector.standardise(shared + apart)
    features = shared + apart[:8]
    seen = see(connector, Views.of([((0,), features[None])]))
    plain = make_connector(small_config(), 3).eval()
    standard = (apart[:8] - apart.mean(0)) / apart.std(0)
    wanted = see(plain, Views.of([((0,), standard[None])]))
    torch.testing.assert_close(seen, wanted, atol=5e-3, rtol=1e-2)
    assert 'clip_mean' in connector.state_dict()  # so that it is saved


def test_neighbours_are_joined_on_the_grid():
    tokens = torch.arange(8.0).reshape(1, 8, 1)  # 2 rows of 4
    joined = join_neighbours(tokens, 2, 4, 2)
    assert joined.tolist() == [[[0, 1, 4, 5], [2, 3, 6, 7]]]
    assert join_neighbours(tokens, 2, 4, 1).equal(tokens)


def test_pooled_tokens_become_a_whole_budget():
    config = ConnectorConfig(12, (1, 1), 32, ('CAM_FRONT',), (2, 3), 16, 2, 1)
    tokens = see(make_connector(config, 0).eval(), Views.of([((0,), torch.randn(1, 1, 12))]))
    assert tokens.shape == (1, 1, 6, 32)
    assert tokens[0, 0].std(0).mean() > 1e-3  # and they are not one and the same


def test_sizes_are_checked_and_come_back_from_json():
    config = small_config()
    assert ConnectorConfig.from_dict(config.to_dict()) == config
    for changes, message in (
        ({'width': 0}, 'width must be at least 1'),
        ({'heads': 3}, 'no multiple of heads 3'),
        ({'projection': 'magic'}, "unknown projection 'magic'"),
        ({'token_grid': (0, 2)}, 'token_grid'),
    ):
        with pytest.raises(ClipVlmError, match=message):
            small_config(**changes)
    with pytest.raises(ClipVlmError, match='each once'):
        ConnectorConfig(12, (2, 4), 32, ('CAM_FRONT', 'CAM_FRONT'))
    with pytest.raises(ClipVlmError, match='no configuration'):
        ConnectorConfig.from_dict({'colour': 'red'})


def test_views_of_other_shapes_or_none_are_refused():
    connector = make_connector(small_config(), 0)
    with pytest.raises(ClipVlmError, match='must be'):
        connector(torch.zeros(1, 1, 7, 12), torch.zeros(1, 1).long(), torch.ones(1, 1).bool())
    with pytest.raises(ClipVlmError, match='no view'):
        connector(torch.zeros(1, 1, 8, 12), torch.zeros(1, 1).long(), torch.zeros(1, 1).bool())
    with pytest.raises(ClipVlmError, match='CAM_TOP'):
        places_of({'CAM_TOP': 0}, ('CAM_FRONT',))
    assert places_of({'B': 0, 'A': 0}, ('A', 'B', 'C')) == [0, 1]


def test_distillation_is_smooth_l1_and_cosine_over_views_that_are_there():
    student = torch.tensor([[[[3.0, 0.0]], [[9.0, 9.0]]]])  # 1 sample, 2 views, 1 token
    teacher = torch.tensor([[[[0.0, 0.5]], [[0.0, 0.0]]]], requires_grad=True)
    present = torch.tensor([[True, False]])
    loss = distill_loss(student, teacher, present, DistillWeights(1.0, 0.1))
    # |3| gives 2.5, |0.5| gives 0.125; both directions are at right angles.
    assert loss.item() == pytest.approx((2.5 + 0.125) / 2 + 0.1 * 1)
    assert not loss.requires_grad  # nothing flows to the teacher
    with pytest.raises(ClipVlmError, match='both 0'):
        DistillWeights(0.0, 0.0)


def test_captions_count_alike_whatever_their_length():
    labels = torch.tensor([[-100, 1, -100, -100], [-100, 0, 0, 0]])
    logits = torch.tensor([[0.0, 2.0], [1.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    first = nn.functional.cross_entropy(logits[:1], torch.tensor([1]))
    second = nn.functional.cross_entropy(logits[1:], torch.tensor([0, 0, 0]))
    torch.testing.assert_close(caption_loss(logits, labels), (first + second) / 2)


def test_untrained_connectors_follow_from_their_seed():
    one, two, other = (make_connector(small_config(), seed) for seed in (1, 1, 2))
    assert one.token.equal(two.token)
    assert not one.token.equal(other.token)
