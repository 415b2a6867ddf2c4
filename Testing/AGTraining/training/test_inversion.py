"""Pictures from a network alone."""

import pytest
import torch

from AGTraining.networks.sononet import Sononet
from AGTraining.training.inversion import InversionSettings, invert, noise_pictures, standardised

SIZE = (32, 48)
QUICK = InversionSettings(stages=((4, 10), (1, 10)), jitter=2)


@pytest.fixture
def network() -> Sononet:
    torch.manual_seed(0)
    network = Sononet(num_classes=4, features=2).train()
    # Statistics as of a network that has seen pictures.
    with torch.no_grad():
        for seed in range(20):
            network(standardised(noise_pictures(4, SIZE, seed)))
    return network.eval()


def test_the_network_is_surer_of_the_target_than_before(network):
    starts = noise_pictures(4, SIZE, seed=100)
    with torch.no_grad():
        before = torch.softmax(network(standardised(starts)), dim=1).diagonal()
    settings = InversionSettings(stages=((1, 40),), statistics=0, variation=0, square_variation=0, jitter=0)
    _, after = invert(network, starts, [0, 1, 2, 3], settings=settings)
    # A network without training is never sure, but each picture must have moved its way.
    assert torch.all(after > before + 0.1)


def test_pictures_are_gray_values(network):
    pictures, _ = invert(network, noise_pictures(2, SIZE), [0, 1], settings=QUICK)
    assert pictures.shape == (2, 1, *SIZE)
    assert 0 <= float(pictures.min()) < float(pictures.max()) <= 1


def test_the_statistics_draw_pictures_to_those_that_the_network_knows(network):
    bright = torch.rand(4, 1, *SIZE, generator=torch.Generator().manual_seed(5))
    shifts = []
    for weight in (0.0, 20.0):
        settings = InversionSettings(stages=((1, 20),), statistics=weight, variation=0, square_variation=0, jitter=0)
        pictures, _ = invert(network, bright, [0, 1, 2, 3], settings=settings)
        norm = network.blocks[2][1]
        seen = []
        handle = norm.register_forward_pre_hook(lambda _, inputs, seen=seen: seen.append(inputs[0]))
        with torch.no_grad():
            network(standardised(pictures))
        handle.remove()
        mean = seen[0].mean(dim=(0, 2, 3))
        shifts.append(float(((mean - norm.running_mean).square() / norm.running_var).mean()))
    assert shifts[1] < shifts[0]


def test_the_same_seed_gives_the_same_pictures(network):
    one, two = (invert(network, noise_pictures(2, SIZE), [0, 1], settings=QUICK, seed=3)[0] for _ in range(2))
    assert torch.equal(one, two)


def test_the_network_stays_as_it_is(network):
    before = {name: value.clone() for name, value in network.state_dict().items()}
    invert(network, noise_pictures(2, SIZE), [0, 1], settings=QUICK)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in network.parameters())


def test_each_picture_needs_a_target(network):
    with pytest.raises(ValueError, match="1 targets for pictures of shape"):
        invert(network, noise_pictures(2, SIZE), [0])
