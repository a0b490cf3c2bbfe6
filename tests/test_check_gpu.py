"""The parts of ``make check-gpu``, on the processor."""

import check_gpu
import figures
import yaml


def test_losses_of_another_training_differ_and_of_another_process_do_not(tiny_sources, tmp_path):
    path = check_gpu.write_study(tmp_path, tiny_sources / "encoder", "fp32")
    losses = check_gpu.train(path, tmp_path / "here")["losses"]
    assert len(losses) == check_gpu.FEW
    expected = check_gpu.on_processor(path, tmp_path / "there")
    *_, is_fine = check_gpu.compare_losses("fp32", losses, expected)
    assert is_fine
    study = yaml.safe_load(path.read_text(encoding="utf-8"))
    study["phases"]["target"]["learning_rate"] *= 3
    path.write_text(yaml.safe_dump(study), encoding="utf-8")
    other = check_gpu.train(path, tmp_path / "other")["losses"]
    *_, is_fine = check_gpu.compare_losses("fp32", other, expected)
    assert not is_fine


def test_rate_and_memory_stand_beside_the_plans(tiny_sources, tmp_path):
    path = check_gpu.write_study(tmp_path, tiny_sources / "encoder", "fp32")
    slow = figures.Machine("mine", rate=1.0, memory=1.0, share="as assumed")
    rate, memory = check_gpu.compare_plan("tiny", path, slow, few=1, many=6)
    assert rate[0] == "rate, tiny" and rate[2] == "1e-12 (as assumed)" and rate[3]
    assert memory[1] == "0.00 GB" and memory[3]
    fast = slow._replace(rate=1e18)
    assert not check_gpu.compare_plan("tiny", path, fast, few=1, many=6)[0][3]


def test_a_gpu_is_known_by_its_name():
    names = {"NVIDIA A100-SXM4-80GB": "A100", "NVIDIA GeForce RTX 4090": "RTX 4090"}
    names |= {"Tesla T4": "T4", "NVIDIA L40S": "here"}  # no L4
    assert {name: check_gpu.known(name) for name in names} == names
