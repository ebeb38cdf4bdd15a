"""LoRA through PEFT (Hu et al. 2021)."""
