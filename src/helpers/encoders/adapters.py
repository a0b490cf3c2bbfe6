"""How an encoder's weights are held in training: adapters, bf16, gradient checkpointing.

Low-rank adapters (LoRA, Hu et al. 2022) are the ``peft`` library's: an encoder's own weights stay
as they are, and each linear layer learns a product of two small matrices that is added to its own.
What is handed on from an intermediate task is these matrices.
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
"""In a folder that holds an adapter, as the library names it."""


def adapt(encoder: PreTrainedModel, size: Size, precision: str, train: bool = True) -> None:
    """Prepare an encoder for training as its size says, or (``train`` false) for reading alone.

    Precision, adapters and rounded weights are set here together: what computes with the encoder
    reads its ``precision``. Linear layers that are not trained keep their weights in bf16 where
    products are in bf16: autocast rounds them for every product anyway, so no state changes.
    """
    encoder.precision = precision
    if not train:
        encoder.requires_grad_(False)
    elif size.tuning == "lora":
        _add(encoder, size)
    if precision == "bf16" and (size.tuning == "lora" or not train):
        for module in families.layers(encoder).modules():
            if isinstance(module, nn.Linear) and not module.weight.requires_grad:
                module.to(torch.bfloat16)
    if train and size.gradient_checkpointing:
        families.checkpoint_gradients(encoder)


def targets(encoder: PreTrainedModel, size: Size) -> list[str]:
    """Names, within a layer, of the linear layers that get an adapter.

    Raises :class:`StudyError` where the layers have none of a name that the size gives.
    """
    modules = families.layers(encoder)[0].named_modules()
    linear = [name for name, module in modules if isinstance(module, nn.Linear)]
    chosen = []
    for ending in size.lora.targets:
        fitting = [name for name in linear if f".{name}".endswith(f".{ending}")]
        if not fitting:
            wrong = f"lora.targets: no linear layer '{ending}'; expected some of"
            raise StudyError(f"encoder {size.encoder}: {wrong} {', '.join(linear)}")
        chosen += fitting
    return chosen or linear


def _add(encoder: PreTrainedModel, size: Size) -> None:
    """Freeze an encoder's weights and give its linear layers adapters, in float32."""
    from peft import LoraConfig  # here, since few studies need what it imports

    config = LoraConfig(
        r=size.lora.rank,
        lora_alpha=size.lora.alpha,
        lora_dropout=size.lora.dropout,
        target_modules=targets(encoder, size),
    )
    encoder.add_adapter(config)
    config.base_model_name_or_path = str(Path(str(encoder.name_or_path)).resolve())


def merge(encoder: PreTrainedModel, folder: Path) -> PreTrainedModel:
    """Add the adapter in ``folder`` to an encoder's weights, in float32."""
    from peft import PeftModel

    return PeftModel.from_pretrained(encoder, folder).merge_and_unload()


def are_in(folder: str | Path) -> bool:
    """Whether a folder holds an adapter rather than a whole encoder."""
    return (Path(folder) / CONFIG).is_file()
