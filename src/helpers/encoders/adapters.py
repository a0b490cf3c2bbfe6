"""Low-rank adapters (LoRA, Hu et al. 2022), by the ``peft`` library.

An encoder's own weights stay as they are; each linear layer learns a product of two small matrices
that is added to its own. What is handed on from an intermediate task is these matrices, which
the next training finds added to the weights.
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


def targets(encoder: PreTrainedModel, size: Size) -> list[str]:
    """Names, within a layer, of the linear layers that get an adapter.

    Raises :class:`StudyError` where the layers have none of a name that the size gives.
    """
    modules = families.layers(encoder)[0].named_modules()
    linear = [name for name, module in modules if isinstance(module, nn.Linear)]
    chosen = []
    for asked in size.lora.targets:
        found = [name for name in linear if f".{name}".endswith(f".{asked}")]
        if not found:
            wrong = f"lora.targets: no linear layer '{asked}'; expected some of {', '.join(linear)}"
            raise StudyError(f"encoder {size.encoder}: {wrong}")
        chosen += found
    return chosen or linear


def add(encoder: PreTrainedModel, size: Size) -> None:
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


def round_frozen(encoder: PreTrainedModel) -> None:
    """Keep the weights of linear layers that are not trained in bf16.

    Autocast rounds them for every product, so that no state changes; the memory is half.
    """
    for module in families.layers(encoder).modules():
        if isinstance(module, nn.Linear) and not module.weight.requires_grad:
            module.to(torch.bfloat16)


def merge(encoder: PreTrainedModel, folder: Path) -> PreTrainedModel:
    """Add the adapter in ``folder`` to an encoder's weights, in float32."""
    from peft import PeftModel

    return PeftModel.from_pretrained(encoder, folder).merge_and_unload()


def is_in(folder: str | Path) -> bool:
    """Whether a folder holds an adapter rather than a whole encoder."""
    return (Path(folder) / CONFIG).is_file()
