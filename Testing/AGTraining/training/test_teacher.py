from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from AGTraining import bundle
from AGTraining.bundle import PlaneClass
from AGTraining.data.planes.augment import normalised
from AGTraining.errors import BundleError, ConfigurationError
from AGTraining.imaging.frame_rule import FrameRule
from AGTraining.training.planes_config import TeacherSettings
from AGTraining.training.teacher import Teacher, class_matrix, view_size
from Testing.AGTraining.training.toy_planes import CLASSES, save_planes

OURS = [PlaneClass(name="Background", background=True), PlaneClass(name="Brain"), PlaneClass(name="Femur")]
THEIRS = [PlaneClass(name="Femur"), PlaneClass(name="Brain (Cb.)"), PlaneClass(name="Brain (Tv.)"),
          PlaneClass(name="no plane", background=True)]  # fmt: skip
NAMED = {"Brain (Cb.)": "Brain", "Brain (Tv.)": "Brain"}


def test_classes_are_found_by_name_by_background_and_as_named() -> None:
    matrix = class_matrix("t.safetensors", THEIRS, OURS, NAMED)
    assert matrix.tolist() == [[0, 0, 1], [0, 1, 0], [0, 1, 0], [1, 0, 0]]


def test_class_of_the_teacher_without_counterpart_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"teacher's class 'Brain \(Cb\.\)' is none of this model's"):
        class_matrix("t.safetensors", THEIRS, OURS, {})


def test_class_that_the_teacher_does_not_know_is_refused() -> None:
    ours = [*OURS, PlaneClass(name="Cervix")]
    with pytest.raises(ConfigurationError, match="the teacher knows nothing of the class 'Cervix'"):
        class_matrix("t.safetensors", THEIRS, ours, NAMED)


@pytest.mark.parametrize("named", [{"Kidneys": "Brain"}, {"Femur": "Kidneys"}])
def test_named_class_that_is_none_is_refused(named: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError, match=r"teacher\.classes: 'Kidneys' is no class"):
        class_matrix("t.safetensors", THEIRS, OURS, NAMED | named)


@pytest.mark.parametrize(
    ("student", "teacher", "size"),
    [
        # The same part of the frame: the teacher's own pixels.
        (FrameRule(size=(208, 272)), FrameRule(size=(224, 288)), (224, 288)),
        # A part of what the teacher sees: as many of its pixels fewer.
        (
            FrameRule(size=(208, 272), crop="centre", share=0.5),
            FrameRule(size=(224, 288), crop="centre"),
            (112, 144),
        ),
        (FrameRule(size=(64, 64)), FrameRule(size=(128, 256)), (128, 128)),
    ],
)
def test_teacher_sees_the_view_at_its_own_pixel_size(
    student: FrameRule, teacher: FrameRule, size: tuple[int, int]
) -> None:
    assert view_size(student, teacher) == size


class Recorder(nn.Module):
    """Takes the place of a network."""

    def forward(self, x: Tensor) -> Tensor:
        self.seen = x
        return torch.tensor([[2.0, 0.0, 0.0, -2.0]]).expand(len(x), 4)


def test_teacher_sees_the_whole_view_resampled_and_scaled_by_its_own_rule(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save_planes(tmp_path / "t.safetensors", CLASSES, size=(64, 96))
    classes = bundle.load_planes(path).info.classes
    settings = TeacherSettings(bundle=path, temperature=2.0)
    teacher = Teacher(settings, classes, FrameRule(size=(32, 48)), torch.device("cpu"))
    recorder = Recorder()
    monkeypatch.setattr(teacher, "_network", recorder)
    monkeypatch.setattr(teacher, "_scale", 255.0)
    # Dark above, bright below: the border must be where the student has it, in the middle.
    pictures = torch.zeros(2, 1, 32, 48)
    pictures[:, :, 16:] = 0.5
    p = teacher(pictures)
    assert recorder.seen.shape == (2, 1, 64, 96)
    assert recorder.seen[0, 0, :31].max() < -200 and recorder.seen[0, 0, 33:].min() > 200
    assert recorder.seen.std(correction=0) == pytest.approx(255, rel=1e-4)
    torch.testing.assert_close(p[0], torch.softmax(torch.tensor([1.0, 0.0, 0.0, -1.0]), 0))


def test_teacher_gives_its_network_s_probabilities(tmp_path: Path) -> None:
    torch.manual_seed(0)
    path = save_planes(tmp_path / "t.safetensors", CLASSES)
    model = bundle.load_planes(path)
    teacher = Teacher(
        TeacherSettings(bundle=path, temperature=1.0), model.info.classes, FrameRule(size=(32, 48)), torch.device("cpu")
    )
    pictures = torch.rand(3, 1, 32, 48)
    expected = torch.softmax(model.network(normalised(pictures)), dim=1)
    # bfloat16, where the processor has it, keeps 8 bits.
    torch.testing.assert_close(teacher(pictures), expected, rtol=0.05, atol=0.02)


def test_teacher_that_segments_is_refused(tmp_path: Path, repository: Path) -> None:
    settings = TeacherSettings(bundle=repository / "Resources" / "Models" / "abdomen-ct-starter.safetensors")
    with pytest.raises(BundleError, match="this model segments scans"):
        Teacher(settings, OURS, FrameRule(), torch.device("cpu"))
