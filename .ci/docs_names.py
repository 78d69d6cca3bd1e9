"""Griffe extension: the public names of packages that import what is behind a name only when it is asked for."""

import ast

from griffe import Alias, Extension, Module


class LazyNames(Extension):
    """Makes each entry of a package's ``_NAMES`` (see `monai_ext.lazy`) a name of the package, as an import would."""

    def on_module(self, *, mod: Module, **_):
        names = mod.members.get("_NAMES")
        if names is None or not isinstance(mod, Module) or not mod.is_init_module:
            return
        for name, module in ast.literal_eval(str(names.value)).items():
            target = f"{mod.path}{module}" if module.startswith(".") else module
            mod.members[name] = Alias(name, f"{target}.{name}", parent=mod)
        mod.exports = sorted(ast.literal_eval(str(names.value)))
