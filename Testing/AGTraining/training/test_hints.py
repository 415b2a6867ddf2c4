"""What a student learns from its teacher's features."""

from pathlib import Path

import pytest
import torch

from AGTraining.errors import ConfigurationError
from AGTraining.networks.sononet import AGSononet, Sononet
from AGTraining.training.hints import FeatureHint, distance
from AGTraining.training.trainer import Trainer
from Testing.AGTraining.training.toy_planes import CLASSES, make_plane_config, save_planes


@pytest.fixture
def teacher() -> Sononet:
    torch.manual_seed(0)
    return Sononet(num_classes=3, features=2).eval()


def loss_of(hint: FeatureHint, student: torch.nn.Module, teacher: Sononet, frames: torch.Tensor) -> torch.Tensor:
    with hint.listening():
        student(frames)
        with torch.no_grad():
            teacher(frames)
    return hint.loss()


def test_the_same_features_have_no_distance():
    features = torch.rand(2, 8, 2, 3)
    assert float(distance(features, features)) == 0.0


def test_seeing_nothing_has_the_distance_one():
    assert float(distance(torch.zeros(2, 8, 2, 3), torch.rand(2, 8, 4, 6))) == pytest.approx(1.0)


def test_only_channels_that_both_have_count():
    teacher = torch.rand(2, 8, 2, 3)
    student = torch.cat((teacher, torch.rand(2, 4, 2, 3)), dim=1)
    assert float(distance(student, teacher)) == 0.0
    assert float(distance(teacher[:, :3], teacher)) == 0.0


def test_all_depths_but_the_first_learn(teacher):
    student = AGSononet(num_classes=3, features=2)
    hint = FeatureHint(student, teacher)
    loss_of(hint, student, teacher, torch.randn(2, 1, 32, 32)).backward()
    assert all(parameter.grad is not None for parameter in student.blocks.parameters())
    assert len(hint._pairs) == 4


def test_training_on_the_hint_alone_brings_the_features_nearer(teacher):
    torch.manual_seed(1)
    student = AGSononet(num_classes=3, features=2)
    hint = FeatureHint(student, teacher)
    frames = torch.randn(4, 1, 32, 32)
    optimizer = torch.optim.Adam(student.parameters(), lr=0.01)
    losses = []
    for _ in range(30):
        loss = loss_of(hint, student, teacher, frames)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.7 * losses[0]


def test_the_teacher_is_not_trained(teacher):
    student = AGSononet(num_classes=3, features=2)
    hint = FeatureHint(student, teacher)
    frames = torch.randn(2, 1, 32, 32)
    with hint.listening():
        student(frames)
        teacher(frames)
    hint.loss().backward()
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_nothing_listens_afterwards(teacher):
    student = AGSononet(num_classes=3, features=2)
    hint = FeatureHint(student, teacher)
    with hint.listening():
        pass
    student(torch.randn(2, 1, 32, 32))
    assert not hint._seen


def test_an_attention_network_cannot_give_the_hint():
    student = AGSononet(num_classes=3, features=2)
    with pytest.raises(ConfigurationError, match="take a Sononet as the teacher"):
        FeatureHint(student, AGSononet(num_classes=3, features=2))


def test_a_student_that_is_too_narrow_is_refused():
    with pytest.raises(ConfigurationError, match="8 features, but the network's last block only 4"):
        FeatureHint(_narrow(), Sononet(num_classes=3, features=2))


def _narrow() -> AGSononet:
    student = AGSononet(num_classes=3, features=1)
    student.channels = (*student.channels[:-1], 4)
    return student


def test_a_run_learns_the_features_that_its_teacher_has(frames: Path, tmp_path: Path):
    given = save_planes(tmp_path / "teacher.safetensors", CLASSES, bias=False)

    def losses(**settings: float) -> list[float]:
        changes = {"teacher": {"bundle": str(given), **settings}, "validation": [], "epochs": 3, "steps_per_epoch": 8}
        run = tmp_path / f"run{len(settings)}"
        trainer = Trainer(make_plane_config(frames, run, optimizer="adam", learning_rate=0.01, **changes), "cpu")
        trainer.run()
        return [record["loss"] for record in trainer.history]

    without, hinted = losses(), losses(hint=10.0)
    # The same frames and weights at first; what the features add is large, and falls.
    assert hinted[0] > without[0] + 2
    assert hinted[-1] - without[-1] < 0.8 * (hinted[0] - without[0])
