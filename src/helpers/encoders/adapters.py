"""How an encoder's weights are held in training: adapters, bf16, gradient checkpointing.

Low-rank adapters (LoRA, Hu et al. 2022) come from the library ``peft``. Each linear layer learns a
product of two small matrices, which is added to its weights. Only the adapter is passed on.
"""

import warnings
from pathlib import Path

import torch
from torch import nn
from transformers import PreTrainedModel

from helpers.encoders import families
from helpers.study import Size, StudyError

warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)  # peft asks for it

CONFIG = "adapter_config.json"
"""The library's name of the file that marks a folder with an adapter only."""


def adapt(encoder: PreTrainedModel, size: Size, precision: str, train: bool = True) -> None:
    """Prepare an encoder for training, by its size's settings, or for inference (not ``train``).

    Models built from it compute in its ``precision``. With bf16, linear layers that are not trained
    keep their weights in bf16, because autocast would round them anyway. With LoRA, its weights are
    frozen and its linear layers get adapters, in float32.
    """
    encoder.precision = precision
    if not train:
        encoder.requires_grad_(False)
    elif size.tuning == "lora":
        from peft import LoraConfig  # here, since few studies need what it imports

        config = LoraConfig(
            r=size.lora.rank,
            lora_alpha=size.lora.alpha,
            lora_dropout=size.lora.dropout,
            target_modules=targets(encoder, size),
        )
        encoder.add_adapter(config)
        config.base_model_name_or_path = str(Path(str(encoder.name_or_path)).resolve())
    if precision == "bf16" and (size.tuning == "lora" or not train):
        for module in families.layers(encoder).modules():
            if isinstance(module, nn.Linear) and not module.weight.requires_grad:
                module.to(torch.bfloat16)
    if train and size.gradient_checkpointing:
        encoder.activation_checkpointing_enable({"use_reentrant": False})
        encoder.disable_input_require_grads()  # these would send gradients through frozen layers


def targets(encoder: PreTrainedModel, size: Size) -> list[str]:
    """Names, or ends of names, of the linear layers that get an adapter; by default all.

    Raises StudyError if no layer has a name that the size gives.
    """
    modules = families.layers(encoder)[0].named_modules()
    linear = [name for name, module in modules if isinstance(module, nn.Linear)]
    for ending in size.lora.targets:
        if not any(f".{name}".endswith(f".{ending}") for name in linear):
            wrong = f"lora.targets: no linear layer '{ending}'; expected some of"
            raise StudyError(f"encoder {size.encoder}: {wrong} {', '.join(linear)}")
    return size.lora.targets or linear
