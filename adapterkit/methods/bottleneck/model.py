"""The bottleneck's tuner: puts the layers where the configuration names them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from peft.tuners.tuners_utils import BaseTuner
from torch import nn

from adapterkit.backbone.recognise import hidden_width
from adapterkit.errors import AdapterkitError, SiteError
from adapterkit.methods.bottleneck.config import BottleneckConfig
from adapterkit.methods.bottleneck.layer import BASE_ROW, BottleneckLayer, refuse_merge


class BottleneckModel(BaseTuner):
    """Wraps the modules of a model that a BottleneckConfig names, and no others."""

    prefix: str = "bottleneck_"
    tuner_layer_cls = BottleneckLayer
    target_module_mapping: ClassVar[dict[str, list[str]]] = {}

    def _prepare_adapter_config(self, peft_config: BottleneckConfig, model_config: dict[str, Any]) -> BottleneckConfig:
        return peft_config

    def _prepare_model(self, peft_config: BottleneckConfig, model: nn.Module) -> None:
        """Check every name before anything is changed.
        Raises SiteError: names that the model does not have, all of them at once."""
        modules = dict(model.named_modules())
        problems = []
        for name in peft_config.target_modules:
            target: Any = modules.get(name)
            if target is None:
                problems.append(f"target_modules: the model has no {name}")
                continue
            try:
                hidden_width(target.get_base_layer() if isinstance(target, BottleneckLayer) else target)
            except AdapterkitError as error:
                problems.append(f"target_modules: {name}: {error}")
        for field in ("residual_modules", "norm_modules"):
            names = getattr(peft_config, field).values()
            problems += [f"{field}: the model has no {name}" for name in sorted(set(names) - set(modules))]
        if problems:
            raise SiteError(
                "the bottleneck does not fit this model", problems, "Use the class and the backbone it was made for."
            )

    @staticmethod
    def _check_target_module_exists(peft_config: BottleneckConfig, key: str) -> bool:
        return key in peft_config.target_modules

    def _create_and_replace(
        self,
        peft_config: BottleneckConfig,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
        parameter_name: str | None = None,
    ) -> None:
        residual_name = peft_config.residual_modules.get(current_key)
        residual = None if residual_name is None else (residual_name, self.model.get_submodule(residual_name))
        norm_name = peft_config.norm_modules.get(current_key)
        norm = None if norm_name is None else self.model.get_submodule(norm_name)
        if isinstance(target, BottleneckLayer):
            target.update_layer(adapter_name, peft_config, residual=residual, norm=norm)
            return
        layer = BottleneckLayer(target, adapter_name, peft_config, residual=residual, norm=norm)
        if adapter_name not in self.active_adapters:
            layer.requires_grad_(False)
        self._replace_module(parent, target_name, layer, target)

    @contextmanager
    def _enable_peft_forward_hooks(self, *args: Any, **kwargs: Any) -> Iterator[None]:
        """Route every row to its own adapter, when the call names them."""
        adapter_names = kwargs.pop("adapter_names", None)
        if adapter_names is None:
            yield
            return
        if self.training:
            raise ValueError("Cannot pass `adapter_names` when the model is in training mode.")
        unknown = sorted(set(adapter_names) - set(self.peft_config) - {BASE_ROW})
        if unknown:
            raise ValueError(f"Trying to infer with non-existing adapter(s): {', '.join(unknown)}")
        beams = kwargs.get("num_beams")
        if isinstance(beams, int) and beams > 1:
            adapter_names = [name for name in adapter_names for _ in range(beams)]

        def name_rows(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> Any:
            return args, {**kwargs, "adapter_names": adapter_names}

        handles = [
            layer.register_forward_pre_hook(name_rows, with_kwargs=True)
            for layer in self.model.modules()
            if isinstance(layer, BottleneckLayer)
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def merge_adapter(self, adapter_names: list[str] | None = None, safe_merge: bool = False) -> None:
        """Refused. Raises MergeError: always."""
        refuse_merge()

    def _unload_and_optionally_merge(self, merge: bool = True, *args: Any, **kwargs: Any) -> nn.Module:
        if merge:
            refuse_merge()
        layers = [layer for layer in self.model.modules() if isinstance(layer, BottleneckLayer)]
        model: nn.Module = super()._unload_and_optionally_merge(False, *args, **kwargs)
        for layer in layers:
            layer.release()
        return model
