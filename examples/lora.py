"""Fine-tune with peft's LoRA on a folder with a subfolder per class, and save the merged model.

python examples/lora.py images/ my-model
"""

import argparse

import peft
import torch
from torchvision.datasets import ImageFolder

import convit

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("images")
parser.add_argument("folder", help="gets model.safetensors and config.json")
parser.add_argument("--model", default="convit_tiny.fb_in1k", help="weights to start from")
parser.add_argument("--epochs", type=int, default=5)
given = parser.parse_args()

base = convit.create_model(given.model, pretrained=True)
transform = convit.data.create_transform(**convit.data.resolve_model_data_config(base))
data = ImageFolder(given.images, transform)
base.reset_classifier(len(data.classes))
config = peft.LoraConfig(r=8, target_modules=["qkv", "qk", "v"], modules_to_save=["head"])
model = peft.get_peft_model(base, config).train()
optimizer = torch.optim.AdamW([each for each in model.parameters() if each.requires_grad], lr=1e-3)
for epoch in range(given.epochs):
    for images, labels in torch.utils.data.DataLoader(data, batch_size=16, shuffle=True):
        loss = torch.nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    print(f"epoch {epoch + 1}: loss {loss.item():.3f}")
convit.save_weights(f"{given.folder}/", model.merge_and_unload(), {"classes": data.classes})
