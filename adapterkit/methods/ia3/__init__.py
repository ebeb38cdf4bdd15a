"""IA3 through PEFT (Liu et al. 2022)."""
