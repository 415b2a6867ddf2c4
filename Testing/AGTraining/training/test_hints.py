"""What a student learns from its teacher's features."""

import pytest
import torch

from AGTraining.errors import ConfigurationError
from AGTraining.networks.sononet import AGSononet, Sononet
from AGTraining.training.hints import FeatureHint


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


def test_a_student_that_has_the_features_already_has_no_loss(teacher):
    student = AGSononet(num_classes=3, features=1)
    hint = FeatureHint(student, teacher)
    features = torch.rand(2, 8, 2, 3)
    hint._seen = {"student": features.clone(), "teacher": features}
    assert float(hint.loss()) == 0.0


def test_the_loss_is_one_where_the_student_sees_nothing(teacher):
    hint = FeatureHint(AGSononet(num_classes=3, features=1), teacher)
    hint._seen = {"student": torch.zeros(2, 8, 2, 3), "teacher": torch.rand(2, 8, 4, 6)}
    # Relative to the teacher's features, on the student's grid.
    assert float(hint.loss()) == pytest.approx(1.0)


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
